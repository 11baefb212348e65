//! Secrets that definitions name, against those that are configured here.

use std::collections::BTreeSet;

use holdpoint_db::AgentDocument;
use serde_json::Value;

use super::Finding;
use crate::configuration::Configuration;

/// One finding. A worker elsewhere may have other secrets than the configuration read here.
pub fn examine(configuration: &Configuration, agents: &[AgentDocument]) -> Finding {
    let secrets = &configuration.outbound.secrets;
    let is_there = |tenant: &str, name: &str| {
        secrets.iter().any(|(owner, names)| {
            owner.eq_ignore_ascii_case(tenant) && names.keys().any(|known| known.eq_ignore_ascii_case(name))
        })
    };
    let mut missing = BTreeSet::new();
    for agent in agents {
        let document: Value = serde_json::from_str(&agent.document).unwrap_or_default();
        collect(&document, &mut |name| {
            if !is_there(&agent.tenant, name) {
                missing.insert(format!("`{name}` of {} (agent {})", agent.tenant, agent.name));
            }
        });
    }
    if missing.is_empty() {
        return Finding::ok("secrets", "every secret that an agent names is configured here");
    }
    let what = missing.into_iter().collect::<Vec<_>>().join(", ");
    let advice =
        "set `outbound.secrets.<tenant>.<name>` where workers run; without it these calls fail as `auth`";
    Finding::warn("secrets", format!("not configured here: {what}"), advice)
}

/// Members by the name `secret` that are texts; a tool's parameters may have such a name too,
/// but there it is a schema.
fn collect(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(secret) if name == "secret" => found(secret),
                    _ if name == "parameters" => {}
                    other => collect(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_where_calls_name_them() {
        let document = serde_json::json!({
            "model": {"secret": "openai"},
            "tools": [{"name": "t", "http": {"secret": "crm"}, "parameters": {"properties": {"secret": "no"}}}],
        });
        let mut found = Vec::new();
        collect(&document, &mut |name| found.push(name.to_owned()));
        assert_eq!(found, ["openai", "crm"]);
    }
}
