//! The default catalog's `approval`: a person is asked, and the answer is the task's output.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::data::Scope;
use super::effects::call_id;
use super::{Machine, Step, lost, task_of};
use crate::definition::{APPROVAL_EXPIRY, check_against};
use crate::digest;
use crate::entry::{ApprovalEscalated, ApprovalRequested, Entry};
use crate::ids::ApprovalId;
use crate::outside::{self, Asked};
use crate::policy::Then;
use crate::run::{Run, StepState, ToolWork};
use crate::status::ApprovalStatus;
use crate::workflow::document::{Approval, Task, Work, Workflow};
use crate::workflow::fault::Fault;
use crate::workflow::state::{FrameId, Phase, ValueRef, read};

impl Machine<'_, '_> {
    pub(super) fn ask_person(
        &mut self,
        id: FrameId,
        task: &Task,
        approval: &Approval,
        dot: &Value,
        scope: &Scope,
    ) -> Step<()> {
        let mut arguments = Map::new();
        arguments.insert("title".to_owned(), self.fill_text(&approval.title, dot, scope, "`title`")?.into());
        let others = [
            ("subject", &approval.subject),
            ("assignees", &approval.assignees),
            ("options", &approval.options),
        ];
        for (name, template) in others {
            if let Some(template) = template {
                arguments.insert(name.to_owned(), self.fill(template, dot, scope)?);
            }
        }
        let open_for = match &approval.expires_after {
            Some(length) => self.length(length, dot, scope)?,
            None => APPROVAL_EXPIRY.0,
        };
        let subject = self.store(arguments.get("subject").unwrap_or(&Value::Null))?;
        let (json, _) = self.written(&Value::Object(arguments))?;
        let (step, until) = (self.step(), self.turn.now.plus(open_for));
        self.frame_mut(id)?.phase = Phase::Asked { step, until, subject, escalated: false };
        let arguments_text = json.get().to_owned();
        let requested = ApprovalRequested {
            approval_id: ApprovalId::new(self.turn.now, self.turn.entropy),
            step,
            tool_call_id: call_id(task, step),
            tool: task.name.clone(),
            arguments: json,
            digest: digest::arguments_digest(&task.name, self.workflow.version, &arguments_text),
            arguments_text,
            list_digest: None,
            requested_at: self.turn.now,
            expires_at: until,
            expiry_named: approval.expires_after.is_some(),
            approvers: None,
            quorum: None,
            policy: None,
            asked_by: None,
            delegated_by: None,
        };
        self.push(Entry::ApprovalRequested(requested.under(approval.policy.clone())));
        Ok(())
    }

    /// A person answered, or the time for it is over.
    pub(super) fn answered(&mut self, id: FrameId, step: i32, subject: ValueRef) -> Step<()> {
        // A run that repeats another asks again what nobody had decided there.
        let Some(found) = self.turn.run.steps.get(&step) else { return self.begin(id) };
        if matches!(found.state, StepState::Asking) {
            return self.unanswered(id, step);
        }
        let decided = self.turn.run.flow.decisions.get(&step).cloned().ok_or_else(|| lost("a decision"))?;
        let edited = decided.arguments_text.as_deref().map(read).unwrap_or_default();
        let value = match edited.get("subject") {
            Some(value) => value.clone(),
            None => self.value(subject)?.as_ref().clone(),
        };
        let mut output = json!({
            "approved": decided.approved,
            "value": value,
            "decidedBy": decided.decided_by,
            "decidedAt": decided.decided_at,
            "reason": decided.reason,
        });
        if let Some(option) = edited.get("option") {
            output["option"] = option.clone();
        }
        self.complete(id, Arc::new(output))
    }

    /// Nobody answered: the policy says who is asked next, or what that means.
    fn unanswered(&mut self, id: FrameId, step: i32) -> Step<()> {
        let task = self.task(id)?;
        let Work::Approval(Approval { policy, .. }) = &task.work else { return Err(lost("a question")) };
        let Phase::Asked { until, subject, escalated, .. } = self.frame(id)?.phase else {
            return Err(lost("a question"));
        };
        if let Some(next) = policy.escalation().filter(|_| !escalated) {
            let expires_at = until.plus(next.expires_after.0);
            self.frame_mut(id)?.phase = Phase::Asked { step, until: expires_at, subject, escalated: true };
            let call = self.asked_call(step)?;
            self.push(Entry::ApprovalEscalated(ApprovalEscalated {
                step,
                tool_call_id: call.call_id,
                tool: call.tool,
                escalated_at: until,
                expires_at,
            }));
            return Ok(());
        }
        if policy.last_word() == Then::Deny {
            let call = self.asked_call(step)?;
            let digest = digest::arguments_digest(&call.tool, self.workflow.version, &call.arguments);
            let asked = Asked { step, call_id: &call.call_id, tool: &call.tool, digest };
            self.push(Entry::ApprovalDecided(outside::nobody_decided(asked, self.turn.now)));
            return Ok(());
        }
        self.close_question(step, ApprovalStatus::Expired);
        self.raise(id, Fault::unanswered(format!("nobody decided about `{}` in time", task.name)))
    }

    fn asked_call(&self, step: i32) -> Step<ToolWork> {
        let found = self.turn.run.steps.get(&step).and_then(|step| step.tool());
        found.cloned().ok_or_else(|| lost("a question"))
    }
}

/// What is not the person's to change stays as it was asked; what nobody reads is refused.
fn check_members(edited: &Value, asked: Option<&Value>) -> Result<(), String> {
    for (name, value) in edited.as_object().into_iter().flatten() {
        let is_own = matches!(name.as_str(), "subject" | "option");
        if !is_own && asked.and_then(|asked| asked.get(name)) != Some(value) {
            return Err(format!("arguments: `{name}`: it may be `subject` and `option`"));
        }
    }
    Ok(())
}

/// Checks edited arguments of an open question: an object in which `subject` takes the place
/// of what the question is about, as its schema has it, and `option` is one of those that it
/// offers. The error is a sentence.
pub fn check_edited(workflow: &Workflow, run: &Run, step: i32, edited: &str) -> Result<(), String> {
    crate::strict_json::check_object(edited).map_err(|error| format!("arguments: {error}"))?;
    let edited = read(edited);
    let asked = run.steps.get(&step).and_then(|step| step.tool()).map(|tool| read(&tool.arguments));
    check_members(&edited, asked.as_ref())?;
    let offered = asked.as_ref().and_then(|asked| asked.get("options")).and_then(Value::as_array);
    if let Some(option) = edited.get("option")
        && !offered.is_some_and(|offered| offered.contains(option))
    {
        let may_be: Vec<String> = offered.into_iter().flatten().map(Value::to_string).collect();
        return Err(format!("arguments: `option` is {option}: it may be one of [{}]", may_be.join(", ")));
    }
    match (subject_schema(workflow, run, step), edited.get("subject")) {
        (Some(schema), Some(subject)) => check_against(&schema, &subject.to_string()),
        _ => Ok(()),
    }
}

/// What [`check_edited`] asks of edited arguments, as a schema for a form.
pub fn edited_schema(workflow: &Workflow, run: &Run, step: i32) -> Value {
    let asked = run.steps.get(&step).and_then(|step| step.tool()).map(|tool| read(&tool.arguments));
    let mut properties = json!({"subject": subject_schema(workflow, run, step).unwrap_or_else(|| json!({}))});
    if let Some(options) = asked.as_ref().and_then(|asked| asked.get("options")) {
        properties["option"] = json!({"enum": options});
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// What may be put in the place of an open question's subject; nothing is said of an ended one.
fn subject_schema(workflow: &Workflow, run: &Run, step: i32) -> Option<Value> {
    let state = run.flow.state.as_ref()?;
    let task = task_of(workflow, state, state.frames.get(&state.frame_of_step(step)?)?)?;
    match &task.work {
        Work::Approval(approval) => approval.edit_schema.clone(),
        _ => None,
    }
}
