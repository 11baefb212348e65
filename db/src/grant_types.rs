//! Standing grants as they go into the store and come out.

use std::collections::HashSet;

use holdpoint_engine::ids::GrantId;
use holdpoint_engine::policy::Decider;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::GrantStatus;
use holdpoint_engine::time::Timestamp;

/// Whose calls a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantFor {
    /// Those of the agent of this name, in whichever execution it asks.
    Agent(String),
    /// Those of executions in this conversation.
    Conversation(String),
}

/// A grant as it is made.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// Its id.
    pub id: GrantId,
    /// Whose calls.
    pub on: GrantFor,
    /// Which tool's.
    pub tool: String,
    /// A jq program over the call, as a policy's `when`; any call where there is none.
    pub when: Option<String>,
    /// What the person said.
    pub reason: Option<String>,
    /// Only for executions of this end user.
    pub end_user: Option<String>,
    /// How often at most.
    pub max_uses: i32,
    /// It is over then.
    pub expires_at: Timestamp,
    /// Who makes it: each use is judged as their decision.
    pub by: Decider,
}

/// A grant as it stands.
#[derive(Debug, Clone)]
pub struct GrantRow {
    /// Whose it is.
    pub scope: Scope,
    /// What was granted.
    pub new: NewGrant,
    /// How often it was used.
    pub uses: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was used last.
    pub last_used_at: Option<Timestamp>,
    /// When it was taken back, and by which key.
    pub revoked: Option<(Timestamp, String)>,
    /// How it stands, by the database's clock.
    pub status: GrantStatus,
}

/// What a list of grants is asked for. All conditions hold together.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct GrantFilter {
    pub status: Option<GrantStatus>,
    pub agent: Option<String>,
    pub conversation_id: Option<String>,
    pub end_user: Option<String>,
    /// The last row of the page before.
    pub after: Option<GrantId>,
    pub limit: usize,
}

/// A question, as grants are looked for that would answer it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrantWanted {
    /// The agent whose call it is.
    pub agent: String,
    /// Which tool.
    pub tool: String,
}

/// The grants that would answer a question: their conditions hold. Each is tried, in the order
/// given; where none is in force any more, somebody is asked.
#[derive(Debug, Clone)]
pub struct GrantOffer {
    /// The call.
    pub tool_call_id: String,
    /// Which.
    pub grants: Vec<GrantId>,
}

/// The most grants that are looked at for one question: those that end first.
pub const MAX_OFFERED: usize = 20;

/// Groups as a row has them.
pub(crate) fn groups_text(by: &Decider) -> String {
    let groups: HashSet<&String> = by.groups.iter().collect();
    let mut groups: Vec<&String> = groups.into_iter().collect();
    groups.sort();
    serde_json::json!(groups).to_string()
}
