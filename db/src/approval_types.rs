//! Approvals, decisions on them, and lists of them.

use holdpoint_engine::digest::call_digest;
use holdpoint_engine::entry::DelegatedBy;
use holdpoint_engine::ids::{ApprovalId, ExecutionId};
use holdpoint_engine::policy::{Barred, Decider, Policy, Requester};
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::act_types::Acted;
use crate::grant_types::NewGrant;

/// A decision as a caller sent it.
#[derive(Debug, Clone)]
pub struct DecideRequest {
    /// The execution.
    pub execution: ExecutionId,
    /// The call.
    pub tool_call_id: String,
    /// Approved, else denied.
    pub approved: bool,
    /// What the person said.
    pub reason: Option<String>,
    /// Edited arguments (checked against the schema before), as exact bytes.
    pub arguments: Option<String>,
    /// The digest that the person saw.
    pub digest: Option<String>,
    /// Who decides.
    pub by: Decider,
    /// Only for executions of this end user.
    pub end_user: Option<String>,
    /// A standing grant that is made if this decision is taken.
    pub grant: Option<Box<NewGrant>>,
}

/// What one person said about a question that asks for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Who: a key's own end user, else the key.
    pub person: String,
    /// The key.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Approved, else denied.
    pub approved: bool,
    /// What they said.
    pub reason: Option<String>,
    /// The bytes that they put in the arguments' place.
    pub arguments: Option<String>,
    /// Of what would be sent.
    pub digest: String,
}

/// What became of a decision; the row is as it stands after it.
#[derive(Debug)]
pub enum Decided {
    /// Taken now.
    Taken {
        /// The approval.
        approval: ApprovalRow,
        /// Whom to tell.
        acted: Acted,
    },
    /// Counted: it takes more people than have approved so far.
    Counted(ApprovalRow),
    /// The same decision was there; or this person's vote, while it takes more people.
    Already(ApprovalRow),
    /// Another decision was there.
    Conflict(ApprovalRow),
    /// Undecided, and it expired or its execution ended.
    Closed(ApprovalRow),
    /// The stored arguments have another digest.
    DigestMismatch(ApprovalRow),
    /// Those who voted before approved other arguments.
    VotesDiffer(ApprovalRow),
    /// Whose decision it is does not count; nothing was counted.
    Barred {
        /// The approval.
        approval: ApprovalRow,
        /// Why.
        why: Barred,
    },
    /// The policy lets nobody edit the arguments.
    NoEdit(ApprovalRow),
    /// No such call in this scope.
    NotFound,
}

/// One approval as it stands.
#[derive(Debug, Clone)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// The execution's key.
    pub key: ExecutionKey,
    /// Where the execution stands.
    pub execution_status: Status,
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// Whether an agent's call is asked about, or a workflow asks.
    pub kind: DefinitionKind,
    /// The agent's name.
    pub agent: String,
    /// The agent's version.
    pub version: i32,
    /// The tool.
    pub tool: String,
    /// The arguments' exact bytes.
    pub arguments: String,
    /// What a decision binds to.
    pub digest: String,
    /// When it was opened.
    pub requested_at: Timestamp,
    /// Undecided then, it expires.
    pub expires_at: Timestamp,
    /// Pending, with its time over, reads `expired`.
    pub status: ApprovalStatus,
    /// What the person said.
    pub reason: Option<String>,
    /// The bytes that a person put in their place.
    pub edited_arguments: Option<String>,
    /// Their digest.
    pub edited_digest: Option<String>,
    /// The key that decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// The key that made the grant that decided, where one did.
    pub granted_by: Option<String>,
    /// When the call's intent was committed.
    pub used_at: Option<Timestamp>,
    /// The execution's conversation.
    pub conversation_id: Option<String>,
    /// The child's call that it is about, where it is shown through the parent.
    pub delegated_by: Option<DelegatedBy>,
    /// For a tool of an MCP server: of the list that the call was asked for under.
    pub list_digest: Option<String>,
    /// What a decision is judged by.
    pub policy: Policy,
    /// When further approvers were asked.
    pub escalated_at: Option<Timestamp>,
    /// Who asked for it.
    pub requester: Requester,
    /// What was said so far, where it takes several people.
    pub votes: Vec<Vote>,
}

impl ApprovalRow {
    /// How many more people must approve.
    pub fn votes_needed(&self) -> u32 {
        if self.status != ApprovalStatus::Pending {
            return 0;
        }
        let approved = self.votes.iter().filter(|vote| vote.approved).count();
        self.policy.quorum.saturating_sub(approved as u32)
    }

    /// Whether that decision would count.
    pub fn judge(&self, who: &Decider, named: Option<&str>) -> Result<(), Barred> {
        self.policy.judge(who, named, &self.requester, self.escalated_at.is_some())
    }

    /// The digest of these arguments, sent by this call.
    pub fn digest_of(&self, arguments: &str) -> String {
        call_digest(&self.tool, self.version, arguments, self.list_digest.as_deref())
    }
}

/// A page of approvals, oldest first.
#[derive(Debug, Clone, Default)]
pub struct ApprovalPage {
    /// As in [`ExecutionPage`](crate::ExecutionPage).
    pub rows: Vec<ApprovalRow>,
    /// Where to go on, where there may be more.
    pub next: Option<(Timestamp, ApprovalId)>,
}

/// What the inbox of approvals is asked for, oldest first.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct ApprovalFilter {
    pub status: Option<ApprovalStatus>,
    pub agent: Option<String>,
    pub tool: Option<String>,
    pub execution: Option<ExecutionId>,
    pub conversation_id: Option<String>,
    pub end_user: Option<String>,
    pub after: Option<(Timestamp, ApprovalId)>,
    pub limit: usize,
}
