//! Secrets that definitions name, against those that are configured: where workers are there,
//! by what they say of themselves, else by the configuration read here.

use std::collections::BTreeSet;

use holdpoint_db::{DefinitionDocument, Examination};
use holdpoint_engine::definition::parse_agent;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::workflow::document::Workflow;

use super::Finding;
use crate::configuration::Configuration;

/// One finding.
pub fn examine(configuration: &Configuration, seen: &Examination) -> Finding {
    let live = seen.workers.iter().filter(|worker| worker.expires_at > seen.now);
    let told: Vec<_> = live.filter_map(|worker| worker.about.as_ref()).collect();
    let here = |tenant: &str, name: &str| {
        configuration.outbound.secrets.iter().any(|(owner, names)| {
            owner.eq_ignore_ascii_case(tenant) && names.keys().any(|known| known.eq_ignore_ascii_case(name))
        })
    };
    let is_there = |tenant: &str, name: &str| match told.as_slice() {
        [] => here(tenant, name),
        workers => workers.iter().all(|about| about.has_secret(tenant, name) != Some(false)),
    };
    let missing = missing(&seen.definitions, is_there);
    let place = if told.is_empty() { "configured here" } else { "configured at every worker" };
    if missing.is_empty() {
        return Finding::ok("secrets", format!("every secret that a definition names is {place}"));
    }
    let what = missing.into_iter().collect::<Vec<_>>().join(", ");
    let advice =
        "set `outbound.secrets.<tenant>.<name>` where workers run; without it these calls fail as `auth`";
    Finding::warn("secrets", format!("not {place}: {what}"), advice)
}

fn missing(definitions: &[DefinitionDocument], is_there: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for definition in definitions {
        let DefinitionDocument { tenant, kind, name, .. } = definition;
        for secret in named(definition) {
            if !is_there(tenant, &secret) {
                missing.insert(format!("`{secret}` of {tenant} ({kind} {name})"));
            }
        }
    }
    missing
}

fn named(definition: &DefinitionDocument) -> BTreeSet<String> {
    match definition.kind {
        DefinitionKind::Agent => {
            parse_agent(&definition.document).map(|agent| agent.secrets()).unwrap_or_default()
        }
        DefinitionKind::Workflow => Workflow::load(&definition.document, 1)
            .map(|workflow| workflow.secrets.into_iter().collect())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_s_secrets_are_looked_for_too() {
        let document = "document: {dsl: 1.0.3, namespace: t, name: w, version: 0.1.0}\nuse: {secrets: [till]}\ndo:\n- s: {set: {a: 1}}\n";
        let workflow = DefinitionDocument {
            tenant: "acme".to_owned(),
            kind: DefinitionKind::Workflow,
            name: "w".to_owned(),
            document: document.to_owned(),
        };
        let told = missing(std::slice::from_ref(&workflow), |_, _| false);
        assert_eq!(Vec::from_iter(told), ["`till` of acme (workflow w)"]);
        assert!(missing(&[workflow], |tenant, name| (tenant, name) == ("acme", "till")).is_empty());
    }
}
