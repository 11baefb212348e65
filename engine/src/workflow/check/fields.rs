//! Objects with known keys, and the plain values in them.

use super::spot::Spot;
use super::{Checker, names};
use crate::workflow::read::{Kind, WorkflowError};

impl<'n> Checker<'n, '_> {
    /// Refuses what is no object, and keys that it does not have.
    pub(super) fn object(&mut self, spot: &Spot<'n>, what: &str, keys: &[&str]) -> Option<()> {
        if !matches!(spot.node.kind, Kind::Map(_)) {
            let message = format!("{}: {what} is an object with {}", spot.node.describe(), listed(keys));
            return self.refuse(spot.wrong(message));
        }
        for member in spot.members() {
            if !keys.contains(&member.key.as_str()) {
                self.error(unknown(&spot.member(member), &member.key, what, keys));
            }
        }
        Some(())
    }

    /// A member that must be there.
    pub(super) fn required(&mut self, spot: &Spot<'n>, key: &str) -> Option<Spot<'n>> {
        let found = spot.get(key);
        if found.is_none() {
            self.error(spot.wrong(format!("`{key}` is missing")));
        }
        found
    }

    /// Text that is not empty.
    pub(super) fn text(&mut self, spot: &Spot<'n>) -> Option<&'n str> {
        match spot.text() {
            Some("") => self.refuse(spot.wrong("an empty text")),
            Some(text) => Some(text),
            None => self.expected(spot, "a text"),
        }
    }

    pub(super) fn required_text(&mut self, spot: &Spot<'n>, key: &str) -> Option<&'n str> {
        let found = self.required(spot, key)?;
        self.text(&found)
    }

    pub(super) fn optional_text(&mut self, spot: &Spot<'n>, key: &str) -> Option<Option<&'n str>> {
        super::flip(spot.get(key).map(|found| self.text(&found)))
    }

    pub(super) fn boolean(&mut self, spot: &Spot<'n>, key: &str, default: bool) -> Option<bool> {
        let Some(found) = spot.get(key) else { return Some(default) };
        match found.node.kind {
            Kind::Bool(bool) => Some(bool),
            _ => self.expected(&found, "`true` or `false`"),
        }
    }

    /// A whole number between two, both inclusive.
    pub(super) fn whole(&mut self, spot: &Spot<'n>, least: u64, most: u64) -> Option<u64> {
        let number = match &spot.node.kind {
            Kind::Number(number) => number.as_u64(),
            _ => None,
        };
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => self.expected(spot, &format!("a whole number, {least} to {most}")),
        }
    }

    /// One of a few words.
    pub(super) fn word(&mut self, spot: &Spot<'n>, words: &[&'static str]) -> Option<&'static str> {
        match words.iter().find(|word| spot.text() == Some(word)) {
            Some(word) => Some(word),
            None => {
                let hint = spot.text().and_then(|text| names::nearest(text, words.iter().copied()));
                let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let message = format!("{}: expected {}{hint}", spot.node.describe(), alternatives(words));
                self.refuse(spot.wrong(message))
            }
        }
    }

    pub(super) fn texts(&mut self, spot: &Spot<'n>) -> Option<Vec<String>> {
        self.list(spot)?;
        let texts: Vec<_> = spot.items().map(|item| self.text(&item).map(str::to_owned)).collect();
        texts.into_iter().collect()
    }

    pub(super) fn list(&mut self, spot: &Spot<'n>) -> Option<()> {
        if matches!(spot.node.kind, Kind::List(_)) { Some(()) } else { self.expected(spot, "a list") }
    }

    pub(super) fn expected<T>(&mut self, spot: &Spot<'n>, what: &str) -> Option<T> {
        self.refuse(spot.wrong(format!("{}: expected {what}", spot.node.describe())))
    }
}

fn unknown(spot: &Spot<'_>, key: &str, what: &str, keys: &[&str]) -> WorkflowError {
    let shown = crate::workflow::read::cut(key);
    let message = match names::nearest(key, keys.iter().copied()) {
        Some(near) => format!("unknown key `{shown}`; did you mean `{near}`?"),
        None => format!("unknown key `{shown}`: {what} has {}", listed(keys)),
    };
    spot.wrong_key(message)
}

/// `a`, `b` and `c`.
pub(super) fn listed(words: &[&str]) -> String {
    joined(words, "and")
}

/// `a`, `b` or `c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    joined(words, "or")
}

fn joined(words: &[&str], last: &str) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => format!("`{only}`"),
        [first @ .., end] => {
            let first: Vec<String> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} {last} `{end}`", first.join(", "))
        }
    }
}
