//! Times and lists in sentences.

use holdpoint_engine::time::Timestamp;

/// A moment to the second, and how far it is.
pub fn when(now: Timestamp, at: Timestamp) -> String {
    if at > now {
        format!("{} (in {})", clock(at), length(now, at))
    } else {
        format!("{} ({} ago)", clock(at), length(at, now))
    }
}

/// A moment to the second.
pub fn clock(at: Timestamp) -> String {
    let whole = at.to_string();
    match whole.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => whole,
    }
}

/// The two largest units of a length, to the second; nothing is shorter than one.
pub fn length(from: Timestamp, to: Timestamp) -> String {
    let seconds = from.until(to).as_secs().max(1);
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::with_capacity(2);
    for (unit, each) in units {
        if rest >= each && parts.len() < 2 {
            parts.push(format!("{}{unit}", rest / each));
            rest %= each;
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.join(" ")
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A text without its full stop.
pub fn unstopped(text: &str) -> &str {
    text.trim_end_matches('.')
}

/// With a capital.
pub fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_800_000_000 + seconds) * 1_000_000 + 7)
    }

    #[test]
    fn times_are_absolute_and_relative() {
        assert_eq!(when(at(0), at(90)), "2027-01-15T08:01:30Z (in 1m 30s)");
        assert_eq!(when(at(90), at(0)), "2027-01-15T08:00:00Z (1m 30s ago)");
        assert_eq!(when(at(0), at(0)), "2027-01-15T08:00:00Z (1s ago)");
    }

    #[test]
    fn a_length_has_two_units_at_most() {
        let told = |seconds| length(at(0), at(seconds));
        assert_eq!([told(1), told(60), told(3_600)], ["1s", "1m", "1h"]);
        assert_eq!([told(3_605), told(90_061), told(86_400 + 59)], ["1h", "1d 1h", "1d"]);
    }

    #[test]
    fn lists_end_with_and() {
        let list = |items: &[&str]| listed(&items.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!([list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }
}
