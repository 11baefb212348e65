//! Durations as the DSL writes them: ISO 8601 text, or an object of days, hours, ….

use std::time::Duration;

use serde_json::Value;

/// The longest duration: beyond it, sums with today's date leave what a calendar holds.
pub const LONGEST: Duration = Duration::from_secs(36_500 * DAY);
const DAY: u64 = 86_400;

/// The members of a duration's object, and how many milliseconds each is.
const PARTS: [(&str, u64); 5] = [
    ("days", DAY * 1_000),
    ("hours", 3_600_000),
    ("minutes", 60_000),
    ("seconds", 1_000),
    ("milliseconds", 1),
];

/// A value that an expression had: a text or an object.
pub fn of_value(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => of_text(text),
        Value::Object(parts) if !parts.is_empty() => {
            let parts = parts.iter().map(|(name, count)| match count.as_u64() {
                Some(count) => part(name, count),
                None => Err(format!("`{name}` of a duration is {count}: a whole number, 0 and up")),
            });
            sum(parts)
        }
        _ => Err("a duration is an ISO 8601 text such as `PT30S`, or an object such as {\"seconds\": 30}"
            .to_owned()),
    }
}

/// Reads ISO 8601: weeks, days, hours, minutes, seconds, with fractions. Years and months are of
/// no fixed length and are not taken.
pub fn of_text(text: &str) -> Result<Duration, String> {
    let shown: String = text.chars().take(40).collect();
    let refuse =
        || format!("`{shown}` is no ISO 8601 duration: write one such as `PT30S`, `PT1H30M` or `P2D`");
    let body = text.strip_prefix('P').ok_or_else(refuse)?;
    let (date, time) = match body.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return Err(refuse()),
        None => (body, ""),
    };
    if date.is_empty() && time.is_empty() {
        return Err(refuse());
    }
    if date.contains(['Y', 'M']) {
        return Err(format!("`{shown}`: years and months are of no fixed length; write weeks, days or less"));
    }
    let date = fields(date, &[('W', 7 * DAY), ('D', DAY)]).ok_or_else(refuse)?;
    let time = fields(time, &[('H', 3_600), ('M', 60), ('S', 1)]).ok_or_else(refuse)?;
    sum([Ok(date), Ok(time)])
}

/// So many of a part.
fn part(name: &str, count: u64) -> Result<Duration, String> {
    let each = PARTS.iter().find(|(known, _)| *known == name).map(|(_, each)| *each).ok_or_else(|| {
        format!("`{name}` is no part of a duration: `days`, `hours`, `minutes`, `seconds`, `milliseconds`")
    })?;
    Ok(Duration::from_millis(count.saturating_mul(each)))
}

/// The parts together, if that is not too long.
fn sum(parts: impl IntoIterator<Item = Result<Duration, String>>) -> Result<Duration, String> {
    let mut whole = Duration::ZERO;
    for part in parts {
        whole = whole.saturating_add(part?);
    }
    if whole > LONGEST {
        return Err("a duration is 36500 days at most".to_owned());
    }
    Ok(whole)
}

/// Numbers with their units, in that order, each at most once.
fn fields(mut text: &str, mut units: &[(char, u64)]) -> Option<Duration> {
    let mut whole = Duration::ZERO;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = (&text[..end], text[end..].chars().next()?);
        let at = units.iter().position(|(known, _)| *known == unit)?;
        whole = whole.saturating_add(times(number, units[at].1)?);
        units = &units[at + 1..];
        text = &text[end + unit.len_utf8()..];
    }
    Some(whole)
}

/// `number` of so many seconds each, to the microsecond.
fn times(number: &str, seconds: u64) -> Option<Duration> {
    let (integer, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_plain =
        |digits: &str| !digits.is_empty() && digits.len() <= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_plain(integer) || !is_plain(fraction) {
        return None;
    }
    let whole = Duration::from_secs(integer.parse::<u64>().ok()?.saturating_mul(seconds));
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(whole.saturating_add(Duration::from_micros(micros.saturating_mul(seconds))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn iso_texts_and_objects_are_durations() {
        for (value, millis) in [
            (json!("PT30S"), 30_000),
            (json!("PT0.25S"), 250),
            (json!("P1DT2H3M4.5S"), 93_784_500),
            (json!("P2W"), 14 * 86_400_000),
            (json!("PT1.5H"), 5_400_000),
            (json!("PT0S"), 0),
            (json!({"seconds": 30}), 30_000),
            (json!({"days": 1, "hours": 1, "minutes": 1, "seconds": 1, "milliseconds": 1}), 90_061_001),
        ] {
            assert_eq!(of_value(&value), Ok(Duration::from_millis(millis)), "{value}");
        }
    }

    #[test]
    fn what_is_no_duration_says_what_one_is() {
        for (value, message) in [
            (json!("30s"), "no ISO 8601 duration"),
            (json!("P"), "no ISO 8601 duration"),
            (json!("PT"), "no ISO 8601 duration"),
            (json!("PT5S3M"), "no ISO 8601 duration"),
            (json!("PT5"), "no ISO 8601 duration"),
            (json!("PT1.S"), "no ISO 8601 duration"),
            (json!("-PT1S"), "no ISO 8601 duration"),
            (json!("P1M"), "no fixed length"),
            (json!("P1Y"), "no fixed length"),
            (json!("P40000D"), "36500 days"),
            (json!("PT999999999999999999999999H"), "no ISO 8601 duration"),
            (json!({"seconds": -1}), "a whole number"),
            (json!({"weeks": 1}), "no part of a duration"),
            (json!({"days": 1e18 as u64}), "36500 days"),
            (json!({}), "ISO 8601 text"),
            (json!(5), "ISO 8601 text"),
        ] {
            let error = of_value(&value).expect_err("no duration");
            assert!(error.contains(message), "{value}: {error}");
        }
    }
}
