//! Children (`run: workflow`, `agent`), and the default catalog's `approval` and `task`.

use super::expressions::{Locals, Moment, Scope};
use super::performance::Default as Class;
use super::spot::Spot;
use super::{Checker, flip, names, policy};
use crate::definition::Reference;
use crate::scope::check_name;
use crate::status::{DefinitionKind, EffectClass};
use crate::tasks::check_queue;
use crate::workflow::document::{Approval, Child, QueueTask, Work};
use crate::workflow::read::{Kind, cut};

const APPROVAL_KEYS: [&str; 6] = ["title", "subject", "assignees", "options", "editSchema", "expiresAfter"];
/// A worker sends a heartbeat at most so often.
const SHORTEST_HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

impl<'n> Checker<'n, '_> {
    pub(super) fn run(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("run")?;
        for kind in ["container", "script", "shell"] {
            if let Some(found) = spot.get(kind) {
                let message = format!(
                    "`run: {kind}` is not carried: Holdpoint runs no programs of others; call a service, or give the work to a worker of your own with `task:1.0.0@default`"
                );
                return self.refuse(found.wrong_key(message));
            }
        }
        self.object(&spot, "`run`", &["workflow", "await", "return"])?;
        if let Some(found) = spot.get("return") {
            let message = "`return` is about a program's streams: a workflow's output is its own";
            return self.refuse(found.wrong_key(message));
        }
        let wait = self.boolean(&spot, "await", true);
        let workflow = self.required(&spot, "workflow")?;
        let mut child = self.child_workflow(&workflow, locals.at(Moment::During))?;
        child.wait = wait?;
        Some(Work::Child(child))
    }

    fn child_workflow(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Child> {
        self.object(spot, "`workflow` of `run`", &["namespace", "name", "version", "input"])?;
        let namespace = self.required_text(spot, "namespace");
        let name = self.required(spot, "name").and_then(|found| self.label_text(&found));
        let label = self.child_label(spot);
        let input = flip(spot.get("input").map(|input| self.template(&input, scope)));
        let (name, _) = (name?, namespace?);
        let reference = Reference { agent: name.clone(), version: None };
        self.refers.push((DefinitionKind::Workflow, reference));
        Some(Child {
            kind: DefinitionKind::Workflow,
            name,
            version: None,
            label: label?,
            input: input?,
            wait: true,
        })
    }

    fn label_text(&mut self, spot: &Spot<'n>) -> Option<String> {
        let text = self.text(spot)?;
        match names::check_label(text) {
            Ok(()) => Some(text.to_owned()),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    /// `latest`, or the version that its author wrote.
    fn child_label(&mut self, parent: &Spot<'n>) -> Option<Option<String>> {
        let Some(spot) = parent.get("version") else { return Some(None) };
        match self.text(&spot)? {
            "latest" => Some(None),
            text if names::is_semver(text) => Some(Some(text.to_owned())),
            text => {
                let message = format!("`{}`: expected `latest` or a semantic version", cut(text));
                self.refuse(spot.wrong(message))
            }
        }
    }

    pub(super) fn agent(&mut self, task: &Spot<'n>, scope: Scope<'_>) -> Option<Child> {
        let with = self.required(task, "with")?;
        self.object(&with, "`with` of `agent`", &["agent", "version", "input"])?;
        let name = self.required(&with, "agent").and_then(|found| self.definition_name(&found));
        let version = flip(with.get("version").map(|found| self.whole(&found, 1, i32::MAX as u64)));
        let input = flip(with.get("input").map(|input| self.template(&input, scope)));
        let (name, version) = (name?, version?.map(|version| version as i32));
        self.refers.push((DefinitionKind::Agent, Reference { agent: name.clone(), version }));
        Some(Child { kind: DefinitionKind::Agent, name, version, label: None, input: input?, wait: true })
    }

    fn definition_name(&mut self, spot: &Spot<'n>) -> Option<String> {
        self.name_by(spot, check_name)
    }

    fn name_by(&mut self, spot: &Spot<'n>, check: fn(&str) -> Result<(), String>) -> Option<String> {
        let text = self.text(spot)?;
        match check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    pub(super) fn approval(&mut self, task: &Spot<'n>, scope: Scope<'_>) -> Option<Approval> {
        let with = self.required(task, "with")?;
        self.object(&with, "`with` of `approval`", &[&APPROVAL_KEYS[..], &policy::KEYS].concat())?;
        let title = self.required(&with, "title").and_then(|title| {
            self.text(&title)?;
            self.template(&title, scope)
        });
        let subject = flip(with.get("subject").map(|subject| self.template(&subject, scope)));
        let [assignees, options] = ["assignees", "options"]
            .map(|key| flip(with.get(key).map(|found| self.list_or_expression(&found, scope))));
        let edit_schema = flip(with.get("editSchema").map(|schema| self.json_schema(&schema)));
        let expires_after = self.optional_duration(&with, "expiresAfter", scope);
        let policy = self.decision_policy(&with, scope);
        Some(Approval {
            title: title?,
            subject: subject?,
            assignees: assignees?,
            options: options?,
            edit_schema: edit_schema?.map(|schema| schema.document),
            expires_after: expires_after?,
            policy: policy?,
        })
    }

    fn list_or_expression(
        &mut self,
        spot: &Spot<'n>,
        scope: Scope<'_>,
    ) -> Option<crate::workflow::expression::Template> {
        let is_expression = spot.text().is_some_and(|text| super::expressions::enclosed(text).is_some());
        if is_expression {
            return self.template(spot, scope);
        }
        if !matches!(spot.node.kind, Kind::List(_)) {
            return self.expected(spot, "a list of texts, or one expression `${ … }`");
        }
        self.texts(spot)?;
        self.template(spot, scope)
    }

    pub(super) fn queue_task(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<QueueTask> {
        let with = self.required(task, "with")?;
        self.object(&with, "`with` of `task`", &["queue", "input", "heartbeat"])?;
        let queue = self.required(&with, "queue").and_then(|found| {
            // What was registered before these names were refused is loaded as it is.
            self.name_by(&found, if self.is_new() { check_queue } else { check_name })
        });
        let input = flip(with.get("input").map(|input| self.template(&input, locals.at(Moment::During))));
        let heartbeat = flip(with.get("heartbeat").map(|found| self.heartbeat(&found, locals)));
        let performance = self.performance(task, locals, Class::Is(EffectClass::AtMostOnce));
        Some(QueueTask { queue: queue?, input: input?, heartbeat: heartbeat?, performance: performance? })
    }

    fn heartbeat(&mut self, spot: &Spot<'n>, locals: &Locals) -> Option<std::time::Duration> {
        let heartbeat = self.fixed_duration(spot, locals.at(Moment::During))?;
        if heartbeat < SHORTEST_HEARTBEAT {
            return self.refuse(spot.wrong("a heartbeat is at least one second"));
        }
        Some(heartbeat)
    }
}
