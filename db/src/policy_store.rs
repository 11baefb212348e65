//! The verb for trying policies on what was.

use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;

use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): reading only.
pub trait PolicyStore: Send + Sync + 'static {
    /// The next executions of a project, newest first, and of those that are meant what their
    /// journals say of calls.
    fn calls_read(&self, scope: &Scope, page: &CallsPage) -> StoreResult<PastCalls>;
}

/// Which executions are looked at.
#[derive(Debug, Clone, Default)]
pub struct CallsPage {
    /// Only of this definition; an agent's calls may be in others' executions, and are not
    /// looked for there.
    pub of: Option<(DefinitionKind, String)>,
    /// Only of this end user.
    pub end_user: Option<String>,
    /// Created at this time or later.
    pub since: Option<Timestamp>,
    /// Created before this time.
    pub until: Option<Timestamp>,
    /// Where the page before ended.
    pub after: Option<(Timestamp, ExecutionId)>,
    /// So many executions are looked at, whether they are meant or not.
    pub limit: usize,
}

/// What a page holds.
#[derive(Debug, Clone, Default)]
pub struct PastCalls {
    /// The executions that are meant, newest first.
    pub executions: Vec<PastExecution>,
    /// How many were looked at.
    pub looked_at: usize,
    /// Where the next page begins; `None` where there is none.
    pub next: Option<(Timestamp, ExecutionId)>,
}

/// One execution, and the lines about its calls.
#[derive(Debug, Clone)]
pub struct PastExecution {
    /// Which.
    pub id: ExecutionId,
    /// What it is an execution of.
    pub name: String,
    /// Whom it was for.
    pub end_user: Option<String>,
    /// The lines of the kinds that [`holdpoint_engine::past_calls::KINDS`] names.
    pub lines: Vec<Line>,
}
