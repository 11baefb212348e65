//! It is over.

use holdpoint_engine::status::{Failure, Reason, Status, WorkflowState};

use super::evidence::Evidence;
use super::scene::{Said, Scene};
use super::sentences::Sentence;
use super::words::unstopped;

impl Scene<'_> {
    pub fn ended(&mut self) -> Said {
        let row = &self.standing.row;
        let at = self.when(row.finished_at.unwrap_or(row.updated_at));
        if row.status == Status::Cancelled {
            return self.cancelled(&at);
        }
        let Some(error) = row.error.clone() else {
            return Said::new(Sentence::Completed, format!("It completed at {at}"));
        };
        self.push(Evidence::Error { error: error.clone() });
        let reason = row.reason.map_or(error.kind.as_str(), Reason::as_str);
        let failed = format!("It failed at {at} with the reason `{reason}`: {}", unstopped(&error.message));
        self.failed(failed, &error)
    }

    fn cancelled(&mut self, at: &str) -> Said {
        let by = self.seen.cancelled_by.clone();
        let who = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        self.push(Evidence::Cancelled { by });
        let text = match self.standing.row.reason {
            Some(Reason::Paused) => format!("It was ended at {at}, because its workflow was held{who}"),
            _ => format!("It was cancelled at {at}{who}"),
        };
        Said::new(Sentence::Cancelled, text)
    }

    fn failed(&mut self, failed: String, error: &Failure) -> Said {
        let held = self.workflow_after();
        let with = |text: String| match &held {
            Some(held) => format!("{text}; {held}"),
            None => text,
        };
        if let Some(repeat) = self.standing.around.repeated_by.clone() {
            let (run, attempt, due) = (repeat.run, repeat.attempt, repeat.due_at);
            self.repeat(repeat);
            let when = self.when(due);
            let text = format!("{failed}; {run} repeats it as attempt {attempt}, due at {when}");
            return Said::new(Sentence::FailedRepeated, with(text));
        }
        if let Some(secret) = missing_secret(&error.message) {
            let configure = format!("outbound.secrets.{}.{secret}", self.standing.row.key.scope.tenant);
            let (live, lacking) = (self.live().count(), self.lacking(&secret));
            let text = format!("{failed}: `{configure}` is where workers look for it");
            self.push(Evidence::SecretMissing { secret, lacking, live_workers: live, configure });
            return Said::new(Sentence::FailedSecret, with(text));
        }
        Said::new(Sentence::Failed, with(failed))
    }

    fn lacking(&self, secret: &str) -> usize {
        let tenant = &self.standing.row.key.scope.tenant;
        let said = self.live().filter_map(|worker| worker.about.as_ref()?.has_secret(tenant, secret));
        said.filter(|has| !has).count()
    }

    /// What the failure did to its workflow, where that is still so.
    fn workflow_after(&mut self) -> Option<String> {
        let workflow = self.standing.around.workflow.clone()?;
        let told = match (workflow.state, workflow.schedule_stopped) {
            (WorkflowState::Maintenance, _) => {
                Some("its workflow is in maintenance until a new version or a resume".to_owned())
            }
            (_, true) => {
                Some("its workflow's schedule is stopped until a new version or a resume".to_owned())
            }
            _ => None,
        };
        if told.is_some() {
            self.push(Evidence::Workflow {
                name: workflow.name,
                state: workflow.state,
                changed_at: workflow.changed_at,
                changed_by: workflow.changed_by,
                schedule_stopped: workflow.schedule_stopped,
            });
        }
        told
    }
}

/// The name in the failure that tells of it.
fn missing_secret(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("the secret `")?;
    let (name, after) = rest.split_once('`')?;
    after.trim_start().starts_with("is not configured").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_secret_is_read_off_its_failure() {
        assert_eq!(missing_secret("the secret `crm` is not configured").as_deref(), Some("crm"));
        assert_eq!(missing_secret("/do/0: the secret `a.b` is not configured").as_deref(), Some("a.b"));
        assert_eq!(missing_secret("the secret `crm` was refused"), None);
        assert_eq!(missing_secret("HTTP 401"), None);
    }
}
