//! The question what became of a call whose outcome nobody knows.

use holdpoint_engine::effect::{Input, ReconcileEffect, RequestEffect};
use holdpoint_engine::entry::Json;
use holdpoint_engine::json;
use holdpoint_engine::status::Outcome;
use holdpoint_engine::workflow::document::HttpOutput;
use serde::Deserialize;
use serde_json::Value;

use super::Deadline;
use super::request::exchange;
use crate::{Origin, Performer};

const KEY: &str = "idempotency-key";

/// What is to be answered; other members are the server's own.
#[derive(Deserialize)]
struct Said {
    outcome: String,
    #[serde(default)]
    result: Option<Value>,
}

/// Asks once. Whatever is no clear answer is none: the question is asked again, or a person.
pub(crate) async fn reconcile(performer: &Performer, effect: ReconcileEffect, origin: &Origin) -> Input {
    let request = told_by_key(effect.request);
    let deadline = Deadline::after(request.timeout);
    let read = match exchange(performer, &request, origin, deadline, performer.value_bytes).await {
        Ok((answer, hidden)) => answer.output(HttpOutput::Content, &hidden).map(|output| outcome(&output)),
        Err(fault) => Err(fault),
    };
    let (outcome, result) = read.unwrap_or_default();
    Input::Reconciled { step: request.step, outcome, result }
}

/// The key is how the server knows which call is meant, also where the question only reads. One
/// that the author gave goes before.
fn told_by_key(mut request: RequestEffect) -> RequestEffect {
    let is_given = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(KEY));
    if !is_given {
        request.headers.push((KEY.to_owned(), request.key.clone()));
    }
    request
}

fn outcome(output: &Json) -> (Option<Outcome>, Option<Json>) {
    let Ok(said) = serde_json::from_str::<Said>(output.get()) else { return (None, None) };
    let outcome = said.outcome.parse().ok();
    let result = said.result.filter(|_| outcome == Some(Outcome::Happened));
    (outcome, result.map(|result| json(&result)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_answer_is_one() {
        let read = |text: Value| {
            let (outcome, result) = outcome(&json(&text));
            (outcome, result.map(|result| result.get().to_owned()))
        };
        let of = |outcome: &str| serde_json::json!({"outcome": outcome, "result": {"id": 7}, "more": 1});
        assert_eq!(read(of("happened")), (Some(Outcome::Happened), Some("{\"id\":7}".to_owned())));
        assert_eq!(read(of("did_not_happen")), (Some(Outcome::DidNotHappen), None));
        for unclear in [of("unknown"), of("Happened"), serde_json::json!("happened"), Value::Null] {
            assert_eq!(read(unclear), (None, None));
        }
    }
}
