//! What limits are, and what they come to.

use std::time::Duration;

use holdpoint_engine::ids::SessionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

/// What a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKind {
    /// All executions of a tenant, in all of its projects; its name is [`TENANT_LIMIT`].
    Tenant,
    /// The executions of an agent.
    Agent,
    /// The executions of a workflow.
    Workflow,
    /// The calls of a tool, whichever definitions name it.
    Tool,
}

/// The name of a tenant's own limit.
pub const TENANT_LIMIT: &str = "default";

impl LimitKind {
    /// Every kind.
    pub const ALL: [LimitKind; 4] =
        [LimitKind::Tenant, LimitKind::Agent, LimitKind::Workflow, LimitKind::Tool];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            LimitKind::Tenant => "tenant",
            LimitKind::Agent => "agent",
            LimitKind::Workflow => "workflow",
            LimitKind::Tool => "tool",
        }
    }

    /// Reads it.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What may begin in any span of time of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At most so many.
    pub count: i64,
    /// Within this.
    pub per: Duration,
}

/// A limit; what it does not name is unlimited, or as the operator configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// At most so many at a time.
    pub concurrency: Option<i64>,
    /// At most so many in a span of time.
    pub rate: Option<Rate>,
    /// At most so many that wait to be taken; of tenants only.
    pub backlog: Option<i64>,
}

/// A limit as it is kept, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRow {
    /// What it is for.
    pub kind: LimitKind,
    /// Whose.
    pub name: String,
    /// How much.
    pub limit: Limit,
    /// The key that put it.
    pub updated_by: String,
    /// When.
    pub updated_at: Timestamp,
}

/// Where a limit stands that holds an execution, or one of its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStanding {
    /// What it is for.
    pub kind: LimitKind,
    /// Whose; of a tenant, its name.
    pub name: String,
    /// At most so many at a time.
    pub concurrency: Option<i64>,
    /// At most so many in a span of time.
    pub rate: Option<Rate>,
    /// How many run now.
    pub running: i64,
    /// How many began in the last span of the rate.
    pub begun: i64,
    /// How many wait before it, as far as they were counted; at most [`COUNTED`].
    pub before: i64,
    /// The step whose call it holds; `None` where it holds the execution.
    pub step: Option<i32>,
}

/// Those that wait are counted up to here.
pub const COUNTED: i64 = 10_000;

/// How many executions of a tenant wait to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// So many, counted up to one more than asked for.
    pub count: i64,
    /// The tenant's own bound.
    pub bound: Option<i64>,
}

/// When a worker is to look for work again, after its last claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LookAgain {
    /// Something may be held by a limit: after each end of an execution.
    pub when_freed: bool,
    /// After this.
    pub after: Option<Duration>,
}

/// A call that is to be performed.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// Its execution.
    pub key: ExecutionKey,
    /// Its step.
    pub step: i32,
    /// The tool's name.
    pub tool: String,
    /// The session that holds the execution.
    pub session: SessionId,
}

/// What becomes of a call under the limits of its tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolTurn {
    /// Nothing limits it.
    Free,
    /// It may begin, and is counted until it is done.
    Begun,
    /// It waits; asked again after this it may begin.
    Waits {
        /// Look again then, or when another call ended.
        after: Duration,
    },
}

/// How many executions and calls limits hold now, for gauges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitLoad {
    /// Whose.
    pub scope: Scope,
    /// What for.
    pub kind: LimitKind,
    /// How many wait.
    pub waiting: i64,
}
