//! A worker has it, or had it.

use std::collections::BTreeMap;

use holdpoint_db::Lease;
use holdpoint_engine::status::WorkflowState;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;

use super::evidence::Evidence;
use super::scene::{Said, Scene};
use super::sentences::Sentence;
use super::words::{capital, clock, length};

impl Scene<'_> {
    pub fn held(&mut self, lease: &Lease) -> Said {
        let now = self.now();
        let ran_out = lease.expires_at.is_none_or(|until| until <= now);
        self.push(Evidence::Lease {
            session: lease.session.to_string(),
            holder: lease.holder.clone(),
            since: self.seen.begun,
            until: lease.expires_at,
            ran_out,
        });
        self.steps();
        self.open_approvals();
        let holder = match lease.holder.as_str() {
            "" => format!("the session {}", lease.session),
            name => format!("the worker `{name}`"),
        };
        if ran_out {
            return self.ran_out(&holder, lease.expires_at);
        }
        let waiting = self.limited_calls();
        let has = format!("{} has it{}", capital(&holder), self.doing(&waiting));
        match (&self.seen.ending, &self.standing.around.workflow) {
            (Some(by), _) => {
                let text = format!("{has}; {by} holds its workflow, and it ends once that is over");
                Said::new(Sentence::HeldEnding, text)
            }
            (None, Some(workflow))
                if self.standing.around.unread_acts > 0
                    && matches!(workflow.state, WorkflowState::Paused | WorkflowState::Archived) =>
            {
                let text =
                    format!("{has}; its workflow is {}, and it ends once that is over", workflow.state);
                Said::new(Sentence::HeldEnding, text)
            }
            _ if !waiting.is_empty() => Said::new(Sentence::CallLimited, has),
            _ => Said::new(Sentence::Held, has),
        }
    }

    fn ran_out(&mut self, holder: &str, at: Option<Timestamp>) -> Said {
        let (sweep, overdue) = self.sweep(SweepKind::Stuck);
        let gone = match at {
            Some(at) => format!("The lease of {holder} ran out at {}", self.when(at)),
            None => format!("{} is gone", capital(holder)),
        };
        let code = if overdue { Sentence::LeaseRanOutUnswept } else { Sentence::LeaseRanOut };
        Said::new(code, format!("{gone}: {sweep}, and makes it ready for another worker"))
    }

    fn doing(&self, waiting: &BTreeMap<i32, String>) -> String {
        let now = self.now();
        let ago = |at: Timestamp| format!("since {} ({})", clock(at), length(at, now));
        let since = self.seen.begun.map(|at| format!(" {}", ago(at))).unwrap_or_default();
        let steps: Vec<String> = self
            .seen
            .under_way
            .iter()
            .map(|(step, (what, at))| match waiting.get(step) {
                Some(why) => format!("{what} (step {step}) {why}"),
                None => format!("{what} (step {step}) is under way {}", ago(*at)),
            })
            .collect();
        if steps.is_empty() { since } else { format!("{since}; {}", steps.join("; ")) }
    }

    fn steps(&mut self) {
        let steps: Vec<Evidence> = self
            .seen
            .under_way
            .iter()
            .map(|(step, (what, since))| Evidence::Step { step: *step, what: what.clone(), since: *since })
            .collect();
        self.evidence.extend(steps);
    }
}
