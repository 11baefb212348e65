//! The agents that may speak in one execution, all pinned when it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Reference};
use crate::status::DefinitionKind;
use crate::workflow::document::{Task, Work, Workflow};

/// An execution may delegate so deep: a child of a child counts 2. Passing it fails the
/// execution that would delegate.
pub const MAX_DEPTH: i32 = 8;
/// So many agents are pinned with a start: its own and all that are named, step by step.
pub const MAX_TEAM: usize = 64;

/// One version of one agent.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Member {
    /// The agent's name.
    pub agent: String,
    /// Its version.
    pub version: i32,
}

/// Names without a version, as they stood when the execution started: agents by their names,
/// workflows by [`workflow_pin`].
pub type Pins = BTreeMap<String, i32>;

/// The agents that an execution may be transferred to, and the pins for all that it may name.
#[derive(Debug, Default)]
pub struct Team {
    /// What names without a version mean.
    pub pins: Pins,
    /// Those that may speak.
    pub members: BTreeMap<Member, Arc<Definition>>,
}

impl Team {
    /// What a reference means in this execution; `None` where the agent was not in use when
    /// it started.
    pub fn resolve(&self, reference: &Reference) -> Option<Member> {
        pinned(&self.pins, reference)
    }

    /// The member of that name: the pinned version, else the newest.
    pub fn named(&self, agent: &str) -> Option<Member> {
        let pinned =
            self.pins.get(agent).map(|version| Member { agent: agent.to_owned(), version: *version });
        let known = |member: &Member| self.members.contains_key(member);
        let newest = || self.members.keys().rev().find(|member| member.agent == agent).cloned();
        pinned.filter(known).or_else(newest)
    }
}

/// What a reference means under these pins.
pub fn pinned(pins: &Pins, reference: &Reference) -> Option<Member> {
    let version = reference.version.or_else(|| pins.get(&reference.agent).copied())?;
    Some(Member { agent: reference.agent.clone(), version })
}

/// Where the pins have a workflow's version: its latest, or that which its author named so. No
/// agent's name has a colon.
pub fn workflow_pin(name: &str, label: Option<&str>) -> String {
    label.map_or_else(|| format!("workflow:{name}"), |label| format!("workflow:{name}@{label}"))
}

/// A definition that another one names, as it is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// `agent` or `workflow`.
    #[serde(default = "agent", skip_serializing_if = "is_agent")]
    pub kind: DefinitionKind,
    /// Its name.
    #[serde(rename = "agent")]
    pub name: String,
    /// A version, or the latest when an execution starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// A workflow's version as its author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

fn agent() -> DefinitionKind {
    DefinitionKind::Agent
}

fn is_agent(kind: &DefinitionKind) -> bool {
    *kind == DefinitionKind::Agent
}

impl Named {
    /// Where the pins have it, if its version is not known without them.
    pub fn pin(&self) -> Option<String> {
        match (self.kind, self.version) {
            (_, Some(_)) => None,
            (DefinitionKind::Agent, None) => Some(self.name.clone()),
            (DefinitionKind::Workflow, None) => Some(workflow_pin(&self.name, self.label.as_deref())),
        }
    }

    /// The children that a workflow may start, each once.
    pub fn in_workflow(workflow: &Workflow) -> BTreeSet<Self> {
        workflow.by_pointer.values().filter_map(|task| Self::in_task(task)).collect()
    }

    fn in_task(task: &Task) -> Option<Self> {
        match &task.work {
            Work::Child(child) => Some(Self {
                kind: child.kind,
                name: child.name.clone(),
                version: child.version,
                label: child.label.clone(),
            }),
            Work::Function { task, .. } => Self::in_task(task),
            _ => None,
        }
    }
}

impl From<Reference> for Named {
    fn from(reference: Reference) -> Self {
        let Reference { agent: name, version } = reference;
        Self { kind: DefinitionKind::Agent, name, version, label: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_s_reference_is_kept_as_it_always_was() {
        let reference = Reference { agent: "clerk".to_owned(), version: Some(2) };
        let kept = serde_json::to_string(&Named::from(reference.clone())).expect("JSON");
        assert_eq!(kept, serde_json::to_string(&reference).expect("JSON"));
        let read: Named = serde_json::from_str("{\"agent\":\"clerk\"}").expect("a reference");
        assert_eq!((read.kind, read.pin()), (DefinitionKind::Agent, Some("clerk".to_owned())));
    }

    #[test]
    fn a_workflow_is_pinned_apart_from_an_agent_of_its_name() {
        let of = |kind, version, label: Option<&str>| {
            let (name, label) = ("clerk".to_owned(), label.map(str::to_owned));
            Named { kind, name, version, label }.pin()
        };
        let pins = [
            of(DefinitionKind::Agent, None, None),
            of(DefinitionKind::Workflow, None, None),
            of(DefinitionKind::Workflow, None, Some("1.0.0")),
        ];
        let pins: BTreeSet<_> = pins.into_iter().flatten().collect();
        assert_eq!(pins.len(), 3, "{pins:?}");
        assert_eq!(of(DefinitionKind::Agent, Some(3), None), None);
    }
}
