//! JSON: places are found from where a value's bytes lie in the text.

use serde_json::value::RawValue;

use super::node::{Kind, Member, Node, Place};
use super::{MAX_NESTING, WorkflowError, below, check_text, error, scalar, too_deep};
use crate::strict_json;

/// The whole text where it is a JSON object.
pub(super) fn raw(text: &str) -> Option<&RawValue> {
    let begins = text.trim_start().starts_with('{');
    begins.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Reads a text that [`raw`] took.
pub(super) fn read(text: &str, raw: &RawValue) -> Result<Node, WorkflowError> {
    let mut lines = vec![0];
    lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    Reader { text, lines }.node(raw.get(), "", 0)
}

struct Reader<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'t> Reader<'t> {
    /// Where a part of the text begins in it.
    fn offset(&self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize).min(self.text.len())
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|begin| *begin <= offset).max(1);
        let before = self.text.get(self.lines[line - 1]..offset).unwrap_or_default();
        Place { line, column: before.chars().count() + 1 }
    }

    /// Where the key before a value begins.
    fn key_place(&self, value: usize) -> Place {
        let before = self.text[..value].trim_end().trim_end_matches(':').trim_end();
        let Some(inner) = before.strip_suffix('"') else { return self.place(value) };
        let is_escaped =
            |at: usize| inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        let quote = inner.rmatch_indices('"').map(|(at, _)| at).find(|at| !is_escaped(*at));
        self.place(quote.unwrap_or(value))
    }

    fn node(&self, text: &'t str, pointer: &str, depth: usize) -> Result<Node, WorkflowError> {
        let place = self.place(self.offset(text));
        let unreadable = |found: serde_json::Error| error(place, pointer, found.to_string());
        let kind = match text.as_bytes().first() {
            Some(b'{' | b'[') if depth >= MAX_NESTING => return Err(too_deep(place, pointer)),
            Some(b'{') => Kind::Map(self.members(text, place, pointer, depth)?),
            Some(b'[') => {
                let items: Vec<&'t RawValue> = serde_json::from_str(text).map_err(unreadable)?;
                let each = items.iter().enumerate();
                let read = |(index, item): (usize, &&'t RawValue)| {
                    self.node(item.get(), &format!("{pointer}/{index}"), depth + 1)
                };
                Kind::List(each.map(read).collect::<Result<_, _>>()?)
            }
            Some(b'"') => {
                let string: String = serde_json::from_str(text).map_err(unreadable)?;
                check_text(&string, place, pointer)?;
                Kind::Text(string)
            }
            _ => scalar::plain(text).map_err(|message| error(place, pointer, message))?,
        };
        Ok(Node { place, kind })
    }

    fn members(
        &self,
        text: &'t str,
        place: Place,
        pointer: &str,
        depth: usize,
    ) -> Result<Vec<Member>, WorkflowError> {
        let found = strict_json::members(text).map_err(|found| error(place, pointer, found.to_string()))?;
        let mut seen = std::collections::HashSet::new();
        let mut members = Vec::new();
        for (key, value) in found {
            let (place, at) = (self.key_place(self.offset(value.get())), below(pointer, &key));
            check_text(&key, place, &at)?;
            if !seen.insert(key.clone()) {
                return Err(error(place, &at, format!("the key `{key}` stands twice")));
            }
            let value = self.node(value.get(), &at, depth + 1)?;
            members.push(Member { key, place, value });
        }
        Ok(members)
    }
}
