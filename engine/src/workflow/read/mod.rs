//! From text to a tree whose every node knows its line and column.
//!
//! A document is YAML 1.2 (the core schema), of which JSON is a part; what two readers could
//! read differently, or what makes a short text a large tree, is refused: anchors and aliases,
//! tags, duplicate keys, several documents, numbers beyond what JSON holds.

mod json;
mod node;
mod scalar;
mod yaml;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::DefinitionError;

pub(super) use node::{Kind, Member, Node, Place, cut};

/// The longest document, in bytes: that of one value.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// How deep a document may nest.
const MAX_NESTING: usize = crate::strict_json::MAX_NESTING;

/// What is wrong with a workflow's document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// RFC 6901; empty for the whole document.
    pub pointer: String,
    /// What was there and what may be.
    pub message: String,
}

impl fmt::Display for WorkflowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl From<WorkflowError> for DefinitionError {
    fn from(error: WorkflowError) -> Self {
        Self { message: error.to_string(), place: error.pointer }
    }
}

fn error(place: Place, pointer: &str, message: impl Into<String>) -> WorkflowError {
    WorkflowError {
        line: place.line,
        column: place.column,
        pointer: pointer.to_owned(),
        message: message.into(),
    }
}

/// Reads a document, YAML or JSON.
pub(super) fn read(text: &str) -> Result<Node, WorkflowError> {
    let start = Place { line: 1, column: 1 };
    if text.len() > MAX_DOCUMENT {
        let message = format!("the document has {} bytes: it may have {MAX_DOCUMENT}", text.len());
        return Err(error(start, "", message));
    }
    check_text(text, start, "")?;
    match json::raw(text) {
        Some(raw) => json::read(text, raw),
        None => yaml::read(text),
    }
}

/// A document's value, without its layout and comments.
pub fn to_value(text: &str) -> Result<serde_json::Value, WorkflowError> {
    read(text).map(|root| root.to_value())
}

/// An error about what stands at a pointer, found by somebody who knows more than the document.
pub fn error_at(text: &str, pointer: &str, message: &str) -> WorkflowError {
    let place = read(text).ok().and_then(|root| root.at(pointer).map(|node| node.place));
    error(place.unwrap_or(Place { line: 1, column: 1 }), pointer, message)
}

/// Of a key below a pointer.
pub(super) fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn too_deep(place: Place, pointer: &str) -> WorkflowError {
    error(place, pointer, format!("nesting deeper than {MAX_NESTING}"))
}

/// Refuses text that no database takes.
fn check_text(text: &str, place: Place, pointer: &str) -> Result<(), WorkflowError> {
    if text.contains('\0') {
        return Err(error(place, pointer, "the character \\u0000"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
