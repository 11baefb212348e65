//! Starting an execution for a call: an agent's, or a workflow's child. Its id follows from the
//! parent's and the step, so that whoever starts it again finds it.

use holdpoint_db::{
    Conversation, Created, ExecutionRow, Extras, Idempotency, NewExecution, Parent, StoreError,
};
use holdpoint_engine::digest::{child_id, sha256_hex};
use holdpoint_engine::effect::{Certainty, ChildEffect, DelegateEffect, Input};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::json;
use holdpoint_engine::status::{DefinitionKind, ErrorType, Failure};
use holdpoint_engine::team::{MAX_DEPTH, Named, Pins};
use holdpoint_engine::wire::ExecutionKey;

use crate::Worker;

/// What is to be started, for which step.
struct Start {
    step: i32,
    tool_call_id: String,
    kind: DefinitionKind,
    name: String,
    version: Option<i32>,
    /// SHA-256 of what was asked for.
    digest: String,
    input: String,
    /// Whether the parent hears of its questions and its end.
    tied: bool,
}

/// Starts it, and answers with its id: its end comes as news of a child.
pub(crate) async fn delegate(
    worker: &Worker,
    parent: &ExecutionKey,
    extras: Extras,
    effect: DelegateEffect,
) -> Input {
    let start = Start {
        step: effect.step,
        tool_call_id: effect.tool_call_id,
        kind: DefinitionKind::Agent,
        name: effect.to.agent,
        version: Some(effect.to.version),
        digest: sha256_hex(effect.arguments.as_bytes()),
        input: input(effect.arguments),
        tied: true,
    };
    begin(worker, parent, extras, start).await
}

/// Starts a workflow's child. One that nobody waits for is an execution of its own: its id is
/// the result.
pub(crate) async fn child(
    worker: &Worker,
    parent: &ExecutionKey,
    extras: Extras,
    effect: ChildEffect,
) -> Input {
    let version = match version(&effect, extras.pins.as_ref()) {
        Ok(version) => version,
        Err(failure) => return failed(effect.step, failure),
    };
    let start = Start {
        step: effect.step,
        tool_call_id: effect.tool_call_id,
        kind: effect.kind,
        name: effect.name,
        version,
        digest: sha256_hex(effect.input.as_bytes()),
        input: effect.input,
        tied: effect.wait,
    };
    begin(worker, parent, extras, start).await
}

/// The version that the name means in this execution: as it was when that started.
fn version(effect: &ChildEffect, pins: Option<&Pins>) -> Result<Option<i32>, Failure> {
    let (kind, name) = (effect.kind, effect.name.clone());
    let named = Named { kind, name, version: effect.version, label: effect.label.clone() };
    let Some(pin) = named.pin() else { return Ok(effect.version) };
    match (pins.and_then(|pins| pins.get(&pin)), &effect.label) {
        (Some(version), _) => Ok(Some(*version)),
        (None, None) if pins.is_none() => Ok(None),
        (None, label) => {
            let label = label.as_ref().map(|label| format!(" version {label}")).unwrap_or_default();
            let message =
                format!("the {kind} `{}`{label} was not in use when the execution started", effect.name);
            Err(Failure::new(ErrorType::Logic, message))
        }
    }
}

async fn begin(worker: &Worker, parent: &ExecutionKey, extras: Extras, what: Start) -> Input {
    let (step, tied) = (what.step, what.tied);
    match start(worker, parent, extras, what).await {
        Ok(Ok(child)) if tied => Input::Delegated { step, child },
        Ok(Ok(child)) => Input::Returned { step, output: json(&serde_json::json!({"id": child})) },
        Ok(Err(failure)) => failed(step, failure),
        Err(error) => {
            tracing::warn!(%error, "a child could not be started");
            failed(step, Failure::new(ErrorType::Network, "the execution could not be started now"))
        }
    }
}

/// Nothing is in doubt: a second start is the first one.
fn failed(step: i32, failure: Failure) -> Input {
    Input::Failed { step, failure, retry_after: None, certainty: Certainty::Definite }
}

async fn start(
    worker: &Worker,
    parent: &ExecutionKey,
    extras: Extras,
    what: Start,
) -> Result<Result<ExecutionId, Failure>, StoreError> {
    let depth = extras.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
    if what.tied && depth > MAX_DEPTH {
        let message = format!("executions may wait for each other {MAX_DEPTH} deep, and not deeper");
        return Ok(Err(Failure::new(ErrorType::Logic, message)));
    }
    let (scope, id) = (parent.scope.clone(), parent.id);
    let row = worker.db.hot(move |store| store.execution_get(&scope, id)).await??;
    let row = row.ok_or_else(|| StoreError::Corrupt(format!("{} is gone while it runs", parent.id)))?;
    let mut goes_on_from = None;
    let mut version = what.version;
    if let Some(before) = before(worker, parent, row.retry_of, &what).await? {
        if !what.tied {
            return Ok(Ok(before.key.id));
        }
        if !before.status.is_terminal() {
            let message = format!("the execution {} of the run before has not ended yet", before.key.id);
            return Ok(Err(Failure::new(ErrorType::Network, message)));
        }
        (goes_on_from, version) = (Some(before.key.id), Some(before.version));
    }
    let child = child_id(parent.id, what.step);
    let key = ExecutionKey { scope: parent.scope.clone(), id: child };
    let extras = match inherited(worker, parent, &key, extras, &what, depth) {
        Ok(extras) => Extras { priority: row.priority, goes_on_from, ..extras },
        Err(failure) => return Ok(Err(failure)),
    };
    let (kind, name) = (what.kind, what.name.clone());
    let new = NewExecution {
        key,
        kind,
        name: what.name,
        version,
        idempotency: Some(Idempotency { key: None, body_digest: what.digest }),
        input: Some(what.input),
        messages: None,
        conversation: Conversation::None,
        run_type: row.run_type,
        delay: None,
        metadata: "{}".to_owned(),
        labels: Default::default(),
        end_user: row.end_user,
        created_by: parent.id.to_string(),
        extras,
    };
    Ok(answer(worker.db.create(new).await?, child, &format!("the {kind} `{name}`")))
}

/// What the same step had begun in the run that this one repeats, where it was the same.
async fn before(
    worker: &Worker,
    parent: &ExecutionKey,
    first_run: Option<ExecutionId>,
    what: &Start,
) -> Result<Option<ExecutionRow>, StoreError> {
    let Some(first_run) = first_run else { return Ok(None) };
    let (parent, step) = (parent.clone(), what.step);
    let found = worker.db.hot(move |store| store.child_before(&parent, first_run, step)).await??;
    let same = |row: &ExecutionRow| {
        row.kind == what.kind && row.name == what.name && row.input.as_deref() == Some(&what.input)
    };
    Ok(found.filter(same))
}

/// The execution that there is now. Starts of one that nobody waits for may fall together.
fn answer(created: Created, child: ExecutionId, named: &str) -> Result<ExecutionId, Failure> {
    match created {
        Created::New { .. } | Created::Existing { .. } => Ok(child),
        Created::Coalesced { id, .. } => Ok(id),
        Created::UnknownDefinition => {
            Err(Failure::new(ErrorType::Logic, format!("{named} is not in use any more")))
        }
        Created::WorkflowNotActive { state } => {
            Err(Failure::new(ErrorType::Logic, format!("{named} is not active: its state is {state}")))
        }
        other => {
            tracing::error!(?other, %child, "a child was refused");
            Err(Failure::new(ErrorType::Internal, "the execution was refused"))
        }
    }
}

/// What a child has from its parent. One that nobody waits for pins its own names.
fn inherited(
    worker: &Worker,
    parent: &ExecutionKey,
    child: &ExecutionKey,
    extras: Extras,
    what: &Start,
    depth: i32,
) -> Result<Extras, Failure> {
    let again = |sealed: Vec<u8>| {
        worker.performer.seal_again(parent, child, &sealed).ok_or_else(|| {
            let message = "the caller's headers cannot be passed on: outbound.seal_keys has not the key \
                           that sealed them";
            Failure::new(ErrorType::Auth, message)
        })
    };
    let own = Extras {
        client_time: extras.client_time,
        sealed_headers: extras.sealed_headers.map(again).transpose()?,
        traceparent: extras.traceparent,
        ..Extras::default()
    };
    if !what.tied {
        return Ok(own);
    }
    let (execution, step, tool_call_id) = (parent.id, what.step, what.tool_call_id.clone());
    let parent = Some(Parent { execution, step, tool_call_id, depth });
    Ok(Extras { pins: extras.pins, parent, ..own })
}

/// The text where the arguments are nothing else, as the schema has it that tools of this
/// kind get; any other arguments as they are.
fn input(arguments: String) -> String {
    let read = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&arguments);
    match read {
        Ok(members) if members.len() == 1 => match members.get("input") {
            Some(text @ serde_json::Value::String(_)) => text.to_string(),
            _ => arguments,
        },
        _ => arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(kind: DefinitionKind, version: Option<i32>, label: Option<&str>) -> ChildEffect {
        ChildEffect {
            step: 1,
            attempt: 1,
            tool_call_id: "c".to_owned(),
            kind,
            name: "ship".to_owned(),
            version,
            label: label.map(str::to_owned),
            input: "{}".to_owned(),
            wait: true,
        }
    }

    #[test]
    fn a_name_means_what_it_meant_when_the_parent_started() {
        use DefinitionKind::{Agent, Workflow};
        let pins = Pins::from([("ship".to_owned(), 2), ("workflow:ship".to_owned(), 3)]);
        let known = |kind, given, label| version(&effect(kind, given, label), Some(&pins));
        assert_eq!(known(Agent, None, None), Ok(Some(2)));
        assert_eq!(known(Agent, Some(1), None), Ok(Some(1)));
        assert_eq!(known(Workflow, None, None), Ok(Some(3)));
        let error = known(Workflow, None, Some("9.0.0")).expect_err("not in use");
        assert!(error.message.contains("`ship` version 9.0.0"), "{error}");
        assert!(version(&effect(Agent, None, None), Some(&Pins::new())).is_err());
        assert_eq!(version(&effect(Agent, None, None), None), Ok(None));
    }

    #[test]
    fn a_lone_text_is_the_input_and_else_the_arguments_are() {
        let told = |arguments: &str| input(arguments.to_owned());
        assert_eq!(told(r#"{"input": "Book it"}"#), r#""Book it""#);
        for whole in [r#"{"input": 7}"#, r#"{"input": "a", "b": 1}"#, r#"{"city": "Rome"}"#, "{}"] {
            assert_eq!(told(whole), whole);
        }
    }
}
