//! The tree of a document.

use serde_json::{Number, Value};

/// Where something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// A value, and where it begins.
#[derive(Debug, PartialEq)]
pub(crate) struct Node {
    /// Of its first character.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// `null`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As JSON holds it.
    Number(Number),
    /// Text.
    Text(String),
    /// In order.
    List(Vec<Node>),
    /// In the order in which they were written.
    Map(Vec<Member>),
}

/// A key with its value.
#[derive(Debug, PartialEq)]
pub(crate) struct Member {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub place: Place,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// What stands at an RFC 6901 pointer.
    pub fn at(&self, pointer: &str) -> Option<&Node> {
        let Some(rest) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(self) };
        let (key, below) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let key = key.replace("~1", "/").replace("~0", "~");
        let found = match &self.kind {
            Kind::Map(members) => members.iter().find(|member| member.key == key).map(|member| &member.value),
            Kind::List(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        found?.at(below)
    }

    /// Without the places.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(bool) => Value::Bool(*bool),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Kind::Map(members) => {
                members.iter().map(|member| (member.key.clone(), member.value.to_value())).collect()
            }
        }
    }

    /// As a person would call it, cut where it is long.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(bool) => format!("`{bool}`"),
            Kind::Number(number) => format!("the number {number}"),
            Kind::Text(text) => format!("the text `{}`", cut(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "an object".to_owned(),
        }
    }
}

/// The first characters of a text, on one line.
pub(crate) fn cut(text: &str) -> String {
    const SHOWN: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN).collect();
    if shown.len() < text.trim_end().len() {
        shown.push('…');
    }
    shown
}
