//! Where a reader wants to begin.

use http::HeaderMap;

use crate::params::Params;
use crate::problem::{Answer, Code, Problem};

/// What a browser sends by itself when it reconnects.
const LAST_EVENT_ID: &str = "last-event-id";
/// Skip exactly so many.
const START_INDEX: &str = "x-stream-start-index";

/// What a reader at this place of this execution gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Events after it, now or later.
    Here,
    /// Nothing any more: past the end of a finished execution.
    Beyond,
}

/// The number after which to begin. A browser repeats the query of its first connection
/// when it reconnects, so its header goes first.
pub fn after(headers: &HeaderMap, params: &mut Params) -> Answer<i64> {
    let header = |name: &str| {
        headers.get(name).map(|value| (name.to_owned(), value.to_str().unwrap_or("?").to_owned()))
    };
    let given = [
        header(LAST_EVENT_ID),
        header(START_INDEX),
        params.text("after").map(|text| ("after".to_owned(), text)),
    ];
    let mut first = None;
    for (name, text) in given.into_iter().flatten() {
        let number = read(&name, &text)?;
        first = first.or(Some(number));
    }
    Ok(first.unwrap_or(0))
}

/// As [`after`], from the query alone.
pub fn after_param(params: &mut Params) -> Answer<i64> {
    after(&HeaderMap::new(), params)
}

fn read(name: &str, text: &str) -> Answer<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        let shown: String = text.chars().take(64).collect();
        return Err(invalid(format!("`{name}` is `{shown}`: it may be a whole number from 0 on")));
    }
    // A number that no counter reaches is past every end.
    Ok(text.parse().unwrap_or(i64::MAX))
}

fn invalid(detail: String) -> Problem {
    Problem::new(Code::InvalidIndex, detail)
}

/// Whether there can be anything after that number.
pub fn place(after: i64, last_event: i64, finished: bool) -> Answer<Place> {
    if after <= last_event {
        return Ok(Place::Here);
    }
    if finished {
        return Ok(Place::Beyond);
    }
    Err(invalid(format!("the stream has {last_event} events so far; nothing can begin after {after}"))
        .with("last", last_event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_after(pairs: &[(&'static str, &str)]) -> Answer<i64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().expect("a header value"));
        }
        after(&headers, &mut Params::default())
    }

    #[test]
    fn places_are_whole_numbers() {
        assert_eq!(read_after(&[]).expect("fine"), 0);
        assert_eq!(read_after(&[(START_INDEX, "7")]).expect("fine"), 7);
        assert_eq!(read_after(&[(START_INDEX, "7"), (LAST_EVENT_ID, "9")]).expect("fine"), 9);
        assert_eq!(read_after(&[(LAST_EVENT_ID, "99999999999999999999")]).expect("fine"), i64::MAX);
        for bad in ["", "-1", "1.5", "+1", "x", "0x1", "1 2", "1e3"] {
            assert!(read_after(&[(LAST_EVENT_ID, bad)]).is_err(), "{bad}");
        }
        assert!(read_after(&[(START_INDEX, "x"), (LAST_EVENT_ID, "9")]).is_err());
    }

    #[test]
    fn past_the_end_is_an_error_while_it_lives() {
        assert_eq!(place(5, 5, false).expect("fine"), Place::Here);
        assert!(place(6, 5, false).is_err());
        assert_eq!(place(5, 5, true).expect("fine"), Place::Here);
        assert_eq!(place(6, 5, true).expect("fine"), Place::Beyond);
    }
}
