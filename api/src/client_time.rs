//! The user's own time, from two headers of the client. A model is told of it; nothing else
//! depends on it, so a pair that makes no sense is passed over.

use holdpoint_db::ClientTime;
use holdpoint_engine::client_time;
use http::HeaderMap;

/// RFC 3339.
const TIMESTAMP: &str = "x-holdpoint-client-timestamp";
/// A name of the IANA time zone database.
const TIMEZONE: &str = "x-holdpoint-client-timezone";

/// What both headers say; `None` unless both are there and can be read.
pub fn of(headers: &HeaderMap) -> Option<ClientTime> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let (timestamp, timezone) = (text(TIMESTAMP)?, text(TIMEZONE)?);
    client_time::ClientTime::read(timestamp, timezone)?;
    Some(ClientTime { timestamp: timestamp.to_owned(), timezone: timezone.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<ClientTime> {
        of(&pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect())
    }

    #[test]
    fn a_good_pair_is_taken_and_any_other_is_passed_over() {
        let (time, zone) = ((TIMESTAMP, "2026-11-21T05:49:06Z"), (TIMEZONE, "Europe/Berlin"));
        let good = read(&[time, zone]).expect("a good pair");
        assert_eq!((good.timestamp.as_str(), good.timezone.as_str()), (time.1, zone.1));
        for other in [
            &[time][..],
            &[zone],
            &[],
            &[time, (TIMEZONE, "Berlin")],
            &[(TIMESTAMP, "yesterday"), zone],
            &[(TIMESTAMP, ""), zone],
        ] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
