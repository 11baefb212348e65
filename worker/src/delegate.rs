//! Starting an execution for a call. Its id follows from the parent's and the step, so that
//! whoever starts it again finds it.

use holdpoint_db::{Conversation, Created, Extras, Idempotency, NewExecution, Parent, StoreError};
use holdpoint_engine::digest::{child_id, sha256_hex};
use holdpoint_engine::effect::{Certainty, DelegateEffect, Input};
use holdpoint_engine::status::{DefinitionKind, ErrorType, Failure};
use holdpoint_engine::wire::ExecutionKey;

use crate::Worker;

/// Starts it, and answers with its id: its end comes as news of a child.
pub(crate) async fn delegate(
    worker: &Worker,
    parent: &ExecutionKey,
    extras: Extras,
    effect: DelegateEffect,
) -> Input {
    let step = effect.step;
    match start(worker, parent, extras, effect).await {
        Ok(Ok(child)) => Input::Delegated { step, child },
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
    effect: DelegateEffect,
) -> Result<Result<holdpoint_engine::ids::ExecutionId, Failure>, StoreError> {
    let (scope, id) = (parent.scope.clone(), parent.id);
    let row = worker.db.hot(move |store| store.execution_get(&scope, id)).await??;
    let row = row.ok_or_else(|| StoreError::Corrupt(format!("{} is gone while it runs", parent.id)))?;
    let child = child_id(parent.id, effect.step);
    let key = ExecutionKey { scope: parent.scope.clone(), id: child };
    let sealed = match extras.sealed_headers.map(|sealed| worker.performer.seal_again(parent, &key, &sealed))
    {
        None => None,
        Some(Some(sealed)) => Some(sealed),
        Some(None) => {
            let message = "the caller's headers cannot be passed on: outbound.seal_keys has not the key \
                           that sealed them";
            return Ok(Err(Failure::new(ErrorType::Auth, message)));
        }
    };
    let depth = extras.parent.map_or(0, |parent| parent.depth) + 1;
    let name = effect.to.agent.clone();
    let new = NewExecution {
        key,
        kind: DefinitionKind::Agent,
        name: effect.to.agent,
        version: Some(effect.to.version),
        idempotency: Some(Idempotency { key: None, body_digest: sha256_hex(effect.arguments.as_bytes()) }),
        input: Some(input(effect.arguments)),
        messages: None,
        conversation: Conversation::None,
        run_type: row.run_type,
        delay: None,
        metadata: "{}".to_owned(),
        labels: Default::default(),
        end_user: row.end_user,
        created_by: parent.id.to_string(),
        extras: Extras {
            client_time: extras.client_time,
            sealed_headers: sealed,
            pins: extras.pins,
            parent: Some(Parent {
                execution: parent.id,
                step: effect.step,
                tool_call_id: effect.tool_call_id,
                depth,
            }),
            ..Extras::default()
        },
    };
    Ok(match worker.db.create(new).await? {
        Created::New { .. } | Created::Existing { .. } => Ok(child),
        Created::UnknownDefinition => {
            Err(Failure::new(ErrorType::Logic, format!("the agent `{name}` is not in use any more")))
        }
        other => {
            tracing::error!(?other, %child, "a child was refused");
            Err(Failure::new(ErrorType::Internal, "the execution was refused"))
        }
    })
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

    #[test]
    fn a_lone_text_is_the_input_and_else_the_arguments_are() {
        let told = |arguments: &str| input(arguments.to_owned());
        assert_eq!(told(r#"{"input": "Book it"}"#), r#""Book it""#);
        for whole in [r#"{"input": 7}"#, r#"{"input": "a", "b": 1}"#, r#"{"city": "Rome"}"#, "{}"] {
            assert_eq!(told(whole), whole);
        }
    }
}
