//! Every sentence that a diagnosis can say, one closed list, with what to do about it.
//! `docs/diagnosis.md` has the same list.

use schemars::JsonSchema;
use serde::Serialize;

macro_rules! sentences {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $advice:literal;)+) => {
        /// Which sentence; a promise, while its words may change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[schemars(rename = "DiagnosisCode")]
        pub enum Sentence { $($(#[$doc])* $variant),+ }

        impl Sentence {
            /// Every sentence of the list.
            #[cfg(test)]
            pub const ALL: &'static [Sentence] = &[$(Sentence::$variant),+];

            /// The word that callers test for.
            #[cfg(test)]
            pub const fn as_str(self) -> &'static str {
                match self { $(Sentence::$variant => $word),+ }
            }

            /// What to do; empty where there is nothing to do.
            pub const fn advice(self) -> &'static str {
                match self { $(Sentence::$variant => $advice),+ }
            }
        }
    };
}

sentences! {
    /// Ready, and workers are there.
    Ready = "ready", "wait a moment: a worker takes it";
    /// Ready, and nobody takes anything.
    NoWorker = "no_worker", "start a worker, or look why it ended";
    /// Ready, and every worker has all that it can hold.
    WorkersBusy = "workers_busy", "add workers, or raise `worker.slots`";
    /// Ready, and hints do not arrive.
    BrokerAway = "broker_away", "bring the broker back; until then workers find it by looking";
    /// Ready, and a limit is reached.
    Limited = "limited", "wait, or raise the limit: `holdpoint limits set`";
    /// It lost leases, and its like go out one at a time.
    Suspect = "suspect", "wait for its turn; look into the workers' logs why they ended";
    /// It was started for later.
    Delayed = "delayed", "wait, or cancel it";
    /// It repeats a run that failed.
    RepeatDue = "repeat_due", "wait, or begin it now: retry the failed run";
    /// A secret's balance was used up.
    BalanceHeld = "balance_held", "fill up the account that the secret belongs to";
    /// Its workflow has one run at a time.
    Coalesced = "coalesced", "wait for the other run, or cancel it";
    /// A worker has it.
    Held = "held", "";
    /// A worker has it, and a call of it waits for its tool's limit.
    CallLimited = "call_limited", "wait, or raise the limit: `holdpoint limits set`";
    /// A worker has it, and it ends once nothing is under way.
    HeldEnding = "held_ending", "";
    /// Its worker is gone, and the sweep is on its way.
    LeaseRanOut = "lease_ran_out", "wait for the sweep; look why the worker ended";
    /// Its worker is gone, and nobody sweeps.
    LeaseRanOutUnswept = "lease_ran_out_unswept", "start a scheduler and a worker, or look why they ended";
    /// A person is asked.
    Approval = "approval", "decide: `holdpoint approvals approve` or `deny`";
    /// Nobody answered in time.
    ApprovalExpired = "approval_expired", "wait for the sweep, which closes it";
    /// A person paused it.
    Paused = "paused", "resume it: `POST /v1/executions/{id}/resume`";
    /// Nobody knows what became of a call.
    OutcomeUnknown = "outcome_unknown", "find out, and resolve the step: `holdpoint executions resolve`";
    /// The tool is asked what became of a call.
    OutcomeAsked = "outcome_asked", "wait, or find out and resolve the step";
    /// A failed attempt is made again.
    Retry = "retry", "wait, or mend what it failed for";
    /// Time has to pass.
    Timer = "timer", "wait";
    /// It listens.
    Listen = "listen", "send the event: `holdpoint executions signal`";
    /// A worker elsewhere has a task.
    QueueTask = "queue_task", "look at the queue's workers";
    /// Another execution has to end.
    Child = "child", "see what the child waits for";
    /// It came to its end.
    Completed = "completed", "";
    /// Somebody ended it.
    Cancelled = "cancelled", "start it again: `holdpoint executions retry`";
    /// It came to an error.
    Failed = "failed", "mend what it failed for, then `holdpoint executions retry`";
    /// It came to an error, and another run follows.
    FailedRepeated = "failed_repeated", "see the run that repeats it";
    /// It came to an error for want of a secret.
    FailedSecret = "failed_secret", "configure `outbound.secrets.<tenant>.<name>` where workers run, then retry";
    /// Nothing says why.
    Unexplained = "unexplained", "report it: this should not be";
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/diagnosis.md");

    #[test]
    fn the_page_has_each_sentence_with_its_advice_and_no_other() {
        let rows: Vec<Vec<&str>> = PAGE
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
            .collect();
        let told: Vec<(String, String)> =
            rows.iter().map(|row| (row[0].replace('`', ""), row[row.len() - 1].to_owned())).collect();
        let known: Vec<(String, String)> = Sentence::ALL
            .iter()
            .map(|one| {
                let advice = if one.advice().is_empty() { "–" } else { one.advice() };
                (one.as_str().to_owned(), advice.to_owned())
            })
            .collect();
        assert_eq!(told, known);
    }

    #[test]
    fn a_word_is_the_variant_s_name() {
        for one in Sentence::ALL {
            assert_eq!(serde_json::to_value(one).expect("a word"), one.as_str());
        }
    }
}
