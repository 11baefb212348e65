//! What stands in a feature's text, as JSON.

use serde_json::Value;

/// Reads YAML (or JSON, which is YAML). Panics where it is neither: the feature is wrong.
pub fn to_json(text: &str) -> Value {
    holdpoint_engine::workflow::to_value(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
