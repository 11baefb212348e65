//! People are asked: which of them, for what, and for how long yet.

use holdpoint_db::ApprovalRow;
use holdpoint_engine::entry::ApprovalRequested;
use holdpoint_engine::policy::{Approvers, OnTimeout, Policy, Then};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;

use super::evidence::Evidence;
use super::scene::{Said, Scene};
use super::sentences::Sentence;
use super::words::listed;

/// Where a policy names nobody.
const ANYONE: &str = "anyone who may decide";

/// A question that nobody has answered.
#[derive(Clone)]
struct Open {
    asked: ApprovalRequested,
    policy: Policy,
    /// The last word on when it expires: who escalates it moves that on.
    expires_at: Timestamp,
    escalated_at: Option<Timestamp>,
    voted: Vec<String>,
    votes_needed: u32,
}

impl Open {
    fn new(asked: &ApprovalRequested, row: Option<&ApprovalRow>) -> Self {
        let policy = row.map(|row| row.policy.clone()).unwrap_or_default();
        Self {
            asked: asked.clone(),
            expires_at: row.map_or(asked.expires_at, |row| row.expires_at),
            escalated_at: row.and_then(|row| row.escalated_at),
            voted: row.iter().flat_map(|row| &row.votes).map(|vote| vote.by.clone()).collect(),
            votes_needed: row.map_or(1, ApprovalRow::votes_needed).max(1),
            policy,
        }
    }

    fn named(&self) -> String {
        let asked = &self.asked;
        let child = asked.delegated_by.as_ref().map(|by| format!(" of its child {}", by.execution_id));
        format!("`{}` (call {}{})", asked.tool, asked.tool_call_id, child.unwrap_or_default())
    }

    /// Whose decision counts, in words.
    fn who(&self) -> String {
        let mut asked: Vec<&Approvers> = self.policy.approvers.iter().collect();
        match (&self.policy.on_timeout, self.escalated_at) {
            // Who was asked first may still decide: where that is anyone, it still is.
            (OnTimeout::Escalate(further), Some(_)) if !asked.is_empty() => asked.push(&further.approvers),
            _ => {}
        }
        let whom = if asked.is_empty() { ANYONE.to_owned() } else { words(&asked) };
        if self.policy.no_self_approval { format!("{whom}, but not from who started it") } else { whom }
    }

    /// What becomes of it when its time is over.
    fn then(&self) -> &'static str {
        match (&self.policy.on_timeout, self.escalated_at) {
            (OnTimeout::Fail, _) => "fails the execution",
            (OnTimeout::Deny, _) => "denies the call",
            (OnTimeout::Escalate(_), None) => "asks further approvers",
            (OnTimeout::Escalate(further), Some(_)) => match further.then {
                Then::Fail => "fails the execution",
                Then::Deny => "denies the call",
            },
        }
    }

    fn evidence(&self, now: Timestamp) -> Evidence {
        let asked = &self.asked;
        Evidence::Approval {
            approval_id: asked.approval_id,
            step: asked.step,
            tool: asked.tool.clone(),
            tool_call_id: asked.tool_call_id.clone(),
            requested_at: asked.requested_at,
            expires_at: self.expires_at,
            expired: self.expires_at <= now,
            approvers: self.who(),
            quorum: self.policy.quorum,
            voted: self.voted.clone(),
            votes_needed: self.votes_needed,
            escalated_at: self.escalated_at,
        }
    }
}

fn words(asked: &[&Approvers]) -> String {
    let roles = asked.iter().flat_map(|one| &one.roles).map(|role| format!("the role `{}`", role.as_str()));
    let groups = asked.iter().flat_map(|one| &one.groups).map(|group| format!("the group `{group}`"));
    let mut all: Vec<String> = roles.chain(groups).collect();
    all.dedup();
    all.join(" or ")
}

impl Scene<'_> {
    fn open(&self) -> Vec<Open> {
        let row = |asked: &ApprovalRequested| {
            self.beside.approvals.iter().find(|row| row.tool_call_id == asked.tool_call_id)
        };
        self.seen.approvals.values().map(|asked| Open::new(asked, row(asked))).collect()
    }

    pub fn open_approvals(&mut self) {
        let now = self.now();
        let open = self.open();
        self.evidence.extend(open.iter().map(|one| one.evidence(now)));
    }

    pub fn asked(&mut self) -> Said {
        let (now, open) = (self.now(), self.open());
        if let Some(expired) = open.iter().find(|one| one.expires_at <= now) {
            let (sweep, _) = self.sweep(SweepKind::Stale);
            let text = format!(
                "The approval of {} expired undecided at {}: {sweep}, and {}",
                expired.named(),
                self.when(expired.expires_at),
                expired.then()
            );
            return Said::new(Sentence::ApprovalExpired, text);
        }
        let text = match open.as_slice() {
            [] => "It waits for a decision that its journal does not show".to_owned(),
            [one] => self.asked_one(one),
            several => self.asked_several(several),
        };
        Said::new(Sentence::Approval, text)
    }

    fn asked_one(&self, one: &Open) -> String {
        let what = match (one.policy.quorum, one.votes_needed) {
            (0 | 1, _) => "a decision".to_owned(),
            (quorum, 1) => format!("1 more approval of {quorum}"),
            (quorum, needed) => format!("{needed} more approvals of {quorum}"),
        };
        let escalated = one.escalated_at.map(|at| format!(" (escalated at {})", self.when(at)));
        format!(
            "It waits for {what} on {}, asked for at {}, from {}{}; it expires at {}",
            one.named(),
            self.when(one.asked.requested_at),
            one.who(),
            escalated.unwrap_or_default(),
            self.when(one.expires_at)
        )
    }

    fn asked_several(&self, several: &[Open]) -> String {
        let calls: Vec<String> = several.iter().map(Open::named).collect();
        let mut whom: Vec<String> = several.iter().map(Open::who).collect();
        whom.sort();
        whom.dedup();
        let first = several.iter().map(|one| one.expires_at).min().unwrap_or(self.now());
        format!(
            "It waits for {} decisions from {}: {}; the first expires at {}",
            several.len(),
            listed(&whom),
            listed(&calls),
            self.when(first)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::policy::{ApproverRole, Escalation};
    use holdpoint_engine::time::Span;

    fn open(policy: Policy, escalated: bool) -> Open {
        let asked = serde_json::from_value(serde_json::json!({
            "approval_id": "apr_01h455vb4pex5vsknk084sn02q", "step": 1, "tool_call_id": "c", "tool": "pay",
            "arguments": {}, "arguments_text": "{}", "digest": "d",
            "requested_at": "2027-01-15T08:00:00Z", "expires_at": "2027-01-15T09:00:00Z",
        }));
        let mut open = Open::new(&asked.expect("a question"), None);
        open.escalated_at = escalated.then_some(open.asked.requested_at);
        Open { policy, ..open }
    }

    #[test]
    fn whose_decision_counts_is_told_with_those_that_were_asked_later() {
        let group = |name: &str| Approvers { roles: Vec::new(), groups: vec![name.to_owned()] };
        let further =
            Escalation { approvers: group("board"), expires_after: Span::secs(60), then: Then::Deny };
        let policy = Policy {
            approvers: Some(Approvers {
                roles: vec![ApproverRole::Admin],
                groups: vec!["finance".to_owned()],
            }),
            no_self_approval: true,
            on_timeout: OnTimeout::Escalate(further),
            ..Policy::default()
        };
        let first = open(policy.clone(), false);
        assert_eq!(first.who(), "the role `admin` or the group `finance`, but not from who started it");
        assert_eq!(first.then(), "asks further approvers");
        let later = open(policy, true);
        assert!(later.who().starts_with("the role `admin` or the group `finance` or the group `board`"));
        assert_eq!(later.then(), "denies the call");
        let plain = open(Policy::default(), false);
        assert_eq!((plain.who().as_str(), plain.then()), (ANYONE, "fails the execution"));
    }
}
