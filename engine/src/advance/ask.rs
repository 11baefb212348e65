//! Whether a person is asked before a tool call, and the question.

use std::time::Duration;

use super::{Turn, raw};
use crate::definition::{APPROVAL_EXPIRY, AskedAbout, CompiledTool, asks};
use crate::digest;
use crate::entry::{ApprovalClosed, ApprovalNotNeeded, ApprovalRequested, Entry};
use crate::ids::ApprovalId;
use crate::policy::Policy;
use crate::run::ToolWork;
use crate::status::ApprovalStatus;
use crate::workflow::expression::ExpressionError;

/// When expressions could not be evaluated, they are tried again after this.
pub(super) const EVALUATE_AGAIN: Duration = Duration::from_secs(1);

/// What the rule of its tool says of a call.
enum Verdict {
    /// It goes.
    Send,
    /// It goes, because its policy says so of this call.
    Waive,
    /// A person is asked; the policy could not say why, where there is a reason.
    Ask { when_failed: Option<String> },
    /// Nothing evaluates expressions now.
    Later,
}

impl<'a> Turn<'a> {
    /// Whether the call may be sent as it is; if not, it was asked about, or is looked at again.
    pub(super) fn let_through(&mut self, step: i32) -> bool {
        let Some((work, attempts)) = self.run.steps.get(&step).and_then(|found| {
            let work = found.tool()?.clone();
            Some((work, found.attempt))
        }) else {
            return false;
        };
        let Some(tool) = self.tool_of(&work) else { return false };
        match self.verdict(step, tool, &work) {
            Verdict::Send => return true,
            Verdict::Waive => {
                let (tool_call_id, tool) = (work.call_id, work.tool);
                self.push(Entry::ApprovalNotNeeded(ApprovalNotNeeded { step, tool_call_id, tool }));
                return true;
            }
            Verdict::Later => self.evaluate_again = Some(self.now.plus(EVALUATE_AGAIN)),
            // A run that repeats another asks for itself.
            Verdict::Ask { when_failed } if attempts == 0 || !tool.tool.approval.is_needed() => {
                self.ask_because(step, when_failed);
            }
            Verdict::Ask { .. } => self.ask_again(&work.call_id),
        }
        false
    }

    fn verdict(&self, step: i32, tool: &CompiledTool, work: &ToolWork) -> Verdict {
        let rule = &tool.tool.approval;
        if !self.is_pinned(&tool.tool, work.asker.as_ref()) {
            return Verdict::Ask { when_failed: None };
        }
        let Some(when) = rule.when() else {
            return if rule.is_needed() { Verdict::Ask { when_failed: None } } else { Verdict::Send };
        };
        if self.run.steps.get(&step).is_some_and(|step| step.waived) {
            return Verdict::Send;
        }
        // What was not there a moment ago is not asked for each call of the turn.
        if self.evaluate_again.is_some() {
            return Verdict::Later;
        }
        let call = AskedAbout {
            tool: &work.tool,
            arguments: &work.arguments,
            end_user: self.pinned.end_user.as_deref(),
            agent: work.asker.as_ref().map_or(&self.pinned.name, |asker| &asker.agent),
        };
        match asks(when, call, self.evaluator) {
            Ok(true) => Verdict::Ask { when_failed: None },
            Ok(false) => Verdict::Waive,
            Err(ExpressionError::Unavailable(_)) => Verdict::Later,
            Err(error) => Verdict::Ask { when_failed: Some(error.to_string()) },
        }
    }

    /// Asks a person about a call.
    pub(super) fn ask(&mut self, step: i32) {
        self.ask_because(step, None);
    }

    /// The digest names the version of the agent whose call it is.
    fn ask_because(&mut self, step: i32, when_failed: Option<String>) {
        let Some(work) = self.run.steps.get(&step).and_then(|step| step.tool()).cloned() else {
            return;
        };
        let rule = self.tool_of(&work).map(|tool| &tool.tool.approval);
        let expiry = rule.and_then(|rule| rule.named_expiry());
        let policy = Policy { when_failed, ..rule.map(|rule| rule.policy()).unwrap_or_default() };
        let version = work.asker.as_ref().map_or(self.pinned.definition.version(), |asker| asker.version);
        let list_digest = self.list_digest(&work);
        let entry = ApprovalRequested {
            approval_id: ApprovalId::new(self.now, self.entropy),
            step,
            arguments: raw(&work.arguments),
            digest: digest::call_digest(&work.tool, version, &work.arguments, list_digest.as_deref()),
            list_digest,
            tool_call_id: work.call_id,
            tool: work.tool,
            arguments_text: work.arguments,
            requested_at: self.now,
            expires_at: self.now.plus(expiry.unwrap_or(APPROVAL_EXPIRY.0)),
            expiry_named: expiry.is_some(),
            approvers: None,
            quorum: None,
            policy: None,
            asked_by: work.asker,
            delegated_by: None,
        };
        self.push(Entry::ApprovalRequested(entry.under(policy)));
    }

    /// What was decided on is not what would be sent: a person is asked anew.
    pub(super) fn ask_again(&mut self, call_id: &str) {
        let Some((step, work)) = self.run.step_of_call(call_id).map(|(step, work)| (step, work.clone()))
        else {
            return;
        };
        self.push(Entry::ApprovalClosed(ApprovalClosed {
            step,
            tool_call_id: work.call_id,
            tool: work.tool,
            status: ApprovalStatus::DigestMismatch,
            delegated_by: None,
        }));
        self.ask(step);
    }
}
