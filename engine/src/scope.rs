//! Who owns a row. A query cannot be made without a scope, and a scope comes from a key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A tenant and one of its projects. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The project's name, unique within the tenant.
    pub project: Arc<str>,
}

/// The longest tenant, project, definition or secret name, in bytes.
pub const MAX_NAME: usize = 64;

impl Scope {
    /// From names that were checked before (a row, a key); see [`check_name`].
    pub fn new(tenant: &str, project: &str) -> Self {
        Self { tenant: tenant.into(), project: project.into() }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.project)
    }
}

/// A name is 1 to 64 of `a-z A-Z 0-9 . _ -`, beginning with a letter or digit: it can
/// stand in a path, a routing key and a log line without quoting.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(format!(
        "`{shown}` is not a name: write 1 to {MAX_NAME} letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "refund-agent", "A.b_c-9", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a/b", "ü", "a\0", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
