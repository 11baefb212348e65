//! Standing grants that would answer the questions of a commit: looked up and evaluated before
//! it, used within it.

use holdpoint_db::{GrantOffer, GrantRow, GrantWanted};
use holdpoint_engine::advance::Pinned;
use holdpoint_engine::definition::{AskedAbout, Definition, asks};
use holdpoint_engine::entry::{ApprovalRequested, Entry};
use holdpoint_engine::wire::ExecutionKey;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::Worker;

/// What is offered with the questions among these lines. A workflow's question is one about
/// options, and is always a person's.
pub(crate) async fn offers(
    worker: &Worker,
    key: &ExecutionKey,
    pinned: &Pinned,
    entries: &[Entry],
) -> Vec<GrantOffer> {
    if matches!(pinned.definition.as_ref(), Definition::Workflow(_)) {
        return Vec::new();
    }
    let mut offers = Vec::new();
    for entry in entries {
        let Entry::ApprovalRequested(asked) = entry else { continue };
        if asked.delegated_by.is_none() && asked.quorum.is_none() {
            offers.extend(offer(worker, key, pinned, asked).await);
        }
    }
    offers
}

/// A grant that cannot be looked up or evaluated answers nothing: somebody is asked.
async fn offer(
    worker: &Worker,
    key: &ExecutionKey,
    pinned: &Pinned,
    asked: &ApprovalRequested,
) -> Option<GrantOffer> {
    let agent = asked.asked_by.as_ref().map_or(&pinned.name, |member| &member.agent);
    let wanted = GrantWanted { agent: agent.clone(), tool: asked.tool.clone() };
    let of = key.clone();
    let found = worker.db.hot(move |store| store.grants_for(&of, &wanted)).await;
    let found = found.and_then(|found| found).unwrap_or_else(|error| {
        tracing::warn!(%error, "grants were not looked up: somebody is asked");
        Vec::new()
    });
    let about = AskedAbout {
        tool: &asked.tool,
        arguments: &asked.arguments_text,
        end_user: pinned.end_user.as_deref(),
        agent,
    };
    let grants: Vec<_> =
        found.iter().filter(|grant| holds(worker, grant, about)).map(|grant| grant.new.id).collect();
    (!grants.is_empty()).then(|| GrantOffer { tool_call_id: asked.tool_call_id.clone(), grants })
}

fn holds(worker: &Worker, grant: &GrantRow, about: AskedAbout<'_>) -> bool {
    let Some(when) = &grant.new.when else { return true };
    let evaluate = || asks(when, about, worker.evaluator.as_ref());
    // Evaluating blocks; other tasks of this thread go on elsewhere.
    let told = if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(evaluate)
    } else {
        evaluate()
    };
    told.unwrap_or_else(|error| {
        tracing::info!(grant = %grant.new.id, %error, "the condition of a grant could not be evaluated");
        false
    })
}
