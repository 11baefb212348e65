//! Performing an effect under a lease: nothing leaves without a sure one.

use std::sync::Arc;
use std::time::Instant;

use holdpoint_db::{Extras, ToolCall, failpoint};
use holdpoint_engine::effect::{Certainty, Effect, Input};
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_perform::Origin;
use holdpoint_perform::spans::within;

use crate::Worker;
use crate::delegate::{child, delegate};
use crate::publish::publish;
use crate::session::Session;
use crate::spans::StepSpan;
use crate::tool_turn;

/// Performs one attempt and sends what came of it. A call of a tool has its turn first.
pub(crate) async fn perform(
    worker: &Arc<Worker>,
    session: Arc<Session>,
    effect: Effect,
    tool: Option<String>,
    extras: Extras,
    origin: Origin,
    span: Option<StepSpan>,
) {
    let kind = holdpoint_perform::kind(&effect);
    let step = effect.step();
    let call = tool.map(|tool| ToolCall { key: origin.key.clone(), step, tool, session: session.id });
    let turn = match call {
        None => None,
        Some(call) => match tool_turn::wait(worker, call).await {
            Some(turn) => Some(turn),
            None => return drop(origin.events.send(not_begun(step)).await),
        },
    };
    if !session.is_sure().await {
        return;
    }
    failpoint::hit("worker.effect.before");
    let began = Instant::now();
    let extras = Extras { traceparent: span.as_ref().map(StepSpan::traceparent), ..extras };
    let input = match effect {
        Effect::Publish(effect) => publish(worker, &origin.key, &effect, extras.traceparent).await,
        Effect::Delegate(effect) => delegate(worker, &origin.key, extras, effect).await,
        Effect::Child(effect) => child(worker, &origin.key, extras, *effect).await,
        other => {
            let call = holdpoint_perform::perform(&worker.performer, other, &origin);
            within(extras.traceparent, call).await
        }
    };
    failpoint::hit("worker.effect.after");
    let outcome = match &input {
        Input::Failed { failure, .. } => failure.kind.as_str(),
        _ => "ok",
    };
    worker.metrics.step_seconds.with_label_values(&[kind]).observe(began.elapsed().as_secs_f64());
    if let Some(span) = span {
        span.end(&input);
    }
    worker.metrics.effects.with_label_values(&[kind, outcome]).inc();
    // The next one's turn, before the result is journaled: a call is over with its answer.
    drop(turn);
    // Nobody listens any more where the execution ended or the lease was lost.
    let _ = origin.events.send(input).await;
}

/// A worker that leaves does not wait for a tool's limit: nothing of the call has left.
fn not_begun(step: i32) -> Input {
    let failure =
        Failure::new(ErrorType::RateLimit, "its worker left while the call waited for its tool's limit");
    Input::Failed { step, failure, retry_after: None, certainty: Certainty::Definite }
}
