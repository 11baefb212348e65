//! Paths and queries, read by name. An id that cannot be one names nothing: 404, as for
//! one that is not there. A query that says what we do not know is refused.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::{Answer, Code, Problem};

/// The segments of a path.
pub struct Segments<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = parts.uri.path();
        // A NUL names nothing, and no database text holds one.
        let missing = || Problem::new(Code::NotFound, "there is nothing under this path");
        if path.contains("%00") {
            return Err(missing());
        }
        Path::from_request_parts(parts, state).await.map(|Path(value)| Self(value)).map_err(|_| missing())
    }
}

/// An execution's id in a path.
pub fn execution_id(text: &str) -> Answer<ExecutionId> {
    text.parse().map_err(|_| Problem::not_found("execution", text))
}

/// The pairs of a query, each taken once by its name; [`Params::end`] refuses the rest.
#[derive(Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let read = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = read.map_err(|error| bad("", error))?;
        Self::of(pairs)
    }
}

impl Params {
    fn of(pairs: Vec<(String, String)>) -> Answer<Self> {
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if name.contains('\0') || value.contains('\0') {
                return Err(bad(&name.replace('\0', ""), "the character U+0000 names nothing"));
            }
            if params.insert(name.clone(), value).is_some() {
                return Err(bad(&name, "stands twice"));
            }
        }
        Ok(Self(params))
    }

    /// As it was sent.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Read as what it should be.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str) -> Answer<Option<T>> {
        self.text(name).map(|text| text.parse().map_err(|error| bad(name, error))).transpose()
    }

    /// All pairs whose name begins so, without that beginning.
    pub fn with_prefix(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let (taken, rest) =
            std::mem::take(&mut self.0).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.0 = rest;
        let taken: BTreeMap<String, String> = taken;
        taken.into_iter().map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
    }

    /// A time as RFC 3339 writes it.
    pub fn time(&mut self, name: &str) -> Answer<Option<Timestamp>> {
        let read = |text: String| {
            Timestamp::parse(&text)
                .ok_or_else(|| bad(name, format!("`{text}` is not a time as RFC 3339 writes it")))
        };
        self.text(name).map(read).transpose()
    }

    /// The size of a page: `default` unless told, 1 to `most`.
    pub fn limit(&mut self, default: usize, most: usize) -> Answer<usize> {
        match self.value::<usize>("limit")? {
            None => Ok(default),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(limit) => Err(bad("limit", format!("is {limit}: it may be 1 to {most}"))),
        }
    }

    /// Where the page before ended.
    pub fn cursor<T: FromStr>(&mut self) -> Answer<Option<(Timestamp, T)>> {
        let Some(text) = self.text("cursor") else {
            return Ok(None);
        };
        read_cursor(&text).map(Some).ok_or_else(|| bad("cursor", "is not one that this list gave"))
    }

    /// Refuses what is not by one of these names, or by a name that begins with one of the prefixes.
    pub fn only(mut self, names: &[&str], prefixes: &[&str]) -> Answer<()> {
        let is_known =
            |name: &str| names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.0.retain(|name, _| !is_known(name));
        self.end()
    }

    /// Refuses what nobody asked for.
    pub fn end(self) -> Answer<()> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(bad(&name, "is not a parameter of this call")),
        }
    }
}

/// A parameter that is wrong.
pub fn bad(name: &str, message: impl Display) -> Problem {
    Problem::new(Code::InvalidParameter, format!("`{name}`: {message}")).with("parameter", name)
}

/// The place after a row, for the next page.
pub fn cursor(at: Timestamp, id: impl Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{id}", at.micros()))
}

fn read_cursor<T: FromStr>(text: &str) -> Option<(Timestamp, T)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (micros, id) = text.split_once(':')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Answer<Params> {
        Params::of(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect())
    }

    #[test]
    fn parameters_are_taken_once_and_the_rest_is_refused() {
        let mut read =
            params(&[("limit", "7"), ("label.a", "1"), ("label.b", "2"), ("x", "y")]).expect("fine");
        assert_eq!(read.limit(50, 100).expect("fine"), 7);
        assert_eq!(read.with_prefix("label.").len(), 2);
        assert!(read.end().expect_err("x").document()["detail"].as_str().is_some_and(|d| d.contains("`x`")));
        assert!(params(&[("a", "1"), ("a", "2")]).is_err());
        assert!(params(&[("a", "\0")]).is_err());
    }

    #[test]
    fn pages_are_bounded() {
        for bad in ["0", "101", "-1", "x", ""] {
            assert!(params(&[("limit", bad)]).expect("fine").limit(50, 100).is_err(), "{bad}");
        }
    }

    #[test]
    fn cursors_are_read_back() {
        let id: ExecutionId = "exe_01h455vb4pex5vsknk084sn02q".parse().expect("an id");
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let text = cursor(at, id);
        assert_eq!(params(&[("cursor", &text)]).expect("fine").cursor().expect("fine"), Some((at, id)));
        for bad in ["", "x", "!", &cursor(at, "key_1")] {
            let read: Answer<Option<(Timestamp, ExecutionId)>> =
                params(&[("cursor", bad)]).expect("fine").cursor();
            assert!(read.is_err(), "{bad}");
        }
    }
}
