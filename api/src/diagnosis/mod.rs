//! Why an execution stands where it stands: one sentence, and what it was read from. A pure
//! function over one snapshot of the row, its lease, its journal and what stands around it.

mod asked;
mod ended;
mod evidence;
mod held;
mod limited;
mod look;
mod ready;
mod scene;
mod seen;
mod sentences;
mod suspended;
#[cfg(test)]
mod tests;
mod words;

use holdpoint_db::Standing;
use holdpoint_engine::entry::CorruptLine;
use holdpoint_engine::status::Status;
use schemars::JsonSchema;
use serde::Serialize;

pub use evidence::Evidence;
pub use look::look;
pub use scene::Beside;
pub use sentences::Sentence;

use scene::{Said, Scene};
use seen::Seen;

/// What is answered.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Diagnosis {
    /// Which sentence: for programs.
    pub code: Sentence,
    /// One sentence: what it waits for, or who holds it.
    pub summary: String,
    /// What to do about it, where there is something to do.
    pub advice: Option<&'static str>,
    /// What the sentence was read from.
    pub evidence: Vec<Evidence>,
}

/// Reads it off what stands in the database, and what the API knows beside.
pub fn diagnose(standing: &Standing, beside: Beside<'_>) -> Result<Diagnosis, CorruptLine> {
    let row = &standing.row;
    let evidence = vec![Evidence::Execution {
        status: row.status,
        reason: row.reason,
        now: standing.now,
        updated_at: row.updated_at,
        ready_at: standing.ready_at,
        lost_leases: standing.lost,
    }];
    let mut scene = Scene { standing, seen: Seen::of(standing)?, beside, evidence };
    let Said { code, text } = say(&mut scene);
    let mut parts = vec![text];
    if !row.status.is_terminal() {
        parts.extend(scene.remarks());
    } else {
        scene.schedule();
    }
    let summary = format!("{}.", parts.join("; "));
    let advice = Some(code.advice()).filter(|advice| !advice.is_empty());
    Ok(Diagnosis { code, summary, advice, evidence: scene.evidence })
}

fn say(scene: &mut Scene<'_>) -> Said {
    let standing = scene.standing;
    match (standing.row.status, &standing.lease, standing.ready_at) {
        (Status::Completed | Status::Failed | Status::Cancelled, ..) => scene.ended(),
        (_, Some(lease), _) => scene.held(lease),
        (Status::Suspended, None, _) => scene.suspended(),
        (_, None, Some(at)) if at > standing.now => scene.later(at),
        (Status::Queued, None, None) => scene.coalesced(),
        (_, None, ready_at) => scene.ready(ready_at.unwrap_or(standing.row.updated_at)),
    }
}
