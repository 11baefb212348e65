//! Rows as callers see them. Raw JSON is passed on byte for byte.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use holdpoint_db::{ApprovalRow, DefinitionRow, ExecutionRow, KeyRow, ParkedMessage, SweepReport, SweepRow};
use holdpoint_engine::entry::{DelegatedBy, Json, Usage};
use holdpoint_engine::ids::{ApprovalId, ExecutionId, FileId, KeyId, ParkedId, SweepId};
use holdpoint_engine::policy::Policy;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, Failure, Reason, RunType, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

/// An answer of JSON.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    // Writing these types cannot fail: their keys are strings.
    let text = serde_json::to_string(body).unwrap_or_default();
    let mut response = (status, text).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 and JSON.
pub fn ok<T: Serialize>(body: &T) -> Response {
    json(StatusCode::OK, body)
}

/// Stored JSON as it is; what is none is shown as a string.
pub fn raw(text: String) -> Json {
    RawValue::from_string(text).unwrap_or_else(|error| holdpoint_engine::json(&error.to_string()))
}

fn raw_text(text: &str) -> Json {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| holdpoint_engine::json(text))
}

/// A definition's name and version.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DefinitionVersion")]
pub struct Definition {
    pub name: String,
    pub version: i32,
}

/// One execution, whole.
#[derive(Serialize, JsonSchema)]
pub struct Execution {
    #[serde(flatten)]
    summary: Summary,
    input: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Json>,
    output: Option<Json>,
}

/// One execution as lists show it: without what may be long.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExecutionSummary")]
pub struct Summary {
    id: ExecutionId,
    status: Status,
    reason: Option<Reason>,
    kind: DefinitionKind,
    definition: Definition,
    conversation_id: Option<String>,
    end_user: Option<String>,
    run_type: RunType,
    retry_of: Option<ExecutionId>,
    attempt: i32,
    /// The execution that delegated it.
    parent: Option<ExecutionId>,
    /// The files that it was started with.
    files: Vec<FileId>,
    /// Of those of its project that wait, higher ones are taken first.
    priority: i32,
    error: Option<Failure>,
    usage: Usage,
    metadata: Json,
    labels: BTreeMap<String, String>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    updated_at: Timestamp,
    finished_at: Option<Timestamp>,
    pending_approvals: i64,
    last_event: i64,
}

impl From<ExecutionRow> for Summary {
    fn from(row: ExecutionRow) -> Self {
        Self {
            id: row.key.id,
            status: row.status,
            reason: row.reason,
            kind: row.kind,
            definition: Definition { name: row.name, version: row.version },
            conversation_id: row.conversation_id,
            end_user: row.end_user,
            run_type: row.run_type,
            retry_of: row.retry_of,
            attempt: row.attempt,
            parent: row.parent,
            files: row.files,
            priority: row.priority,
            error: row.error,
            usage: row.usage,
            metadata: raw(row.metadata),
            labels: row.labels,
            created_at: row.created_at,
            started_at: row.started_at,
            updated_at: row.updated_at,
            finished_at: row.finished_at,
            pending_approvals: row.pending_approvals,
            last_event: row.last_event,
        }
    }
}

impl From<ExecutionRow> for Execution {
    fn from(mut row: ExecutionRow) -> Self {
        Self {
            input: row.input.take().map(raw),
            messages: row.messages.take().map(raw),
            output: row.output.take().map(raw),
            summary: row.into(),
        }
    }
}

/// One approval.
#[derive(Serialize, JsonSchema)]
pub struct Approval {
    id: ApprovalId,
    execution_id: ExecutionId,
    execution_status: Status,
    conversation_id: Option<String>,
    step: i32,
    tool_call_id: String,
    /// Whether an agent's call is asked about, or a workflow asks.
    kind: DefinitionKind,
    agent: String,
    version: i32,
    tool: String,
    /// As JSON.
    arguments: Json,
    /// The same bytes as text: what the digest is over.
    arguments_text: String,
    digest: String,
    /// For a tool of an MCP server: of the server's list; a part of the digest.
    list_digest: Option<String>,
    requested_at: Timestamp,
    expires_at: Timestamp,
    status: ApprovalStatus,
    reason: Option<String>,
    edited_arguments: Option<Json>,
    edited_digest: Option<String>,
    decided_by: Option<String>,
    /// The key that made the grant that decided (`decided_by` is its id).
    #[serde(skip_serializing_if = "Option::is_none")]
    granted_by: Option<String>,
    decided_at: Option<Timestamp>,
    used_at: Option<Timestamp>,
    /// What a decision is judged by, as it was when this was asked.
    policy: Policy,
    /// What was said so far, where it takes several people.
    votes: Vec<Vote>,
    /// How many more people must approve; 0 once it is decided or closed.
    votes_needed: u32,
    /// When its first approvers' time was over, and further ones were asked.
    escalated_at: Option<Timestamp>,
    /// The child's call, where this shows through its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    delegated_by: Option<DelegatedBy>,
}

impl From<ApprovalRow> for Approval {
    fn from(row: ApprovalRow) -> Self {
        Self {
            votes_needed: row.votes_needed(),
            votes: row.votes.into_iter().map(Into::into).collect(),
            policy: row.policy,
            escalated_at: row.escalated_at,
            id: row.id,
            execution_id: row.key.id,
            execution_status: row.execution_status,
            conversation_id: row.conversation_id,
            step: row.step,
            tool_call_id: row.tool_call_id,
            kind: row.kind,
            agent: row.agent,
            version: row.version,
            tool: row.tool,
            arguments: raw_text(&row.arguments),
            arguments_text: row.arguments,
            digest: row.digest,
            list_digest: row.list_digest,
            requested_at: row.requested_at,
            expires_at: row.expires_at,
            status: row.status,
            reason: row.reason,
            edited_arguments: row.edited_arguments.as_deref().map(raw_text),
            edited_digest: row.edited_digest,
            decided_by: row.decided_by,
            granted_by: row.granted_by,
            decided_at: row.decided_at,
            used_at: row.used_at,
            delegated_by: row.delegated_by,
        }
    }
}

/// What one person said about a call that takes several.
#[derive(Serialize, JsonSchema)]
pub struct Vote {
    /// The key.
    by: String,
    at: Timestamp,
    approved: bool,
    reason: Option<String>,
    /// Edited arguments, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments_text: Option<String>,
    /// Of the arguments that it is for.
    arguments_digest: String,
}

impl From<holdpoint_db::Vote> for Vote {
    fn from(vote: holdpoint_db::Vote) -> Self {
        Self {
            by: vote.by,
            at: vote.at,
            approved: vote.approved,
            reason: vote.reason,
            arguments_text: vote.arguments,
            arguments_digest: vote.digest,
        }
    }
}

/// One version of a definition.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentVersion")]
pub struct Version {
    name: String,
    version: i32,
    digest: String,
    created_by: String,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Json>,
}

impl Version {
    /// With its document.
    pub fn whole(row: DefinitionRow) -> Self {
        let document = Some(raw(row.document.clone()));
        Self { document, ..Self::brief(row) }
    }

    /// Without its document.
    pub fn brief(row: DefinitionRow) -> Self {
        Self {
            name: row.name,
            version: row.version,
            digest: row.digest,
            created_by: row.created_by,
            created_at: row.created_at,
            document: None,
        }
    }
}

/// An API key, without its secret.
#[derive(Serialize, JsonSchema)]
pub struct Key {
    id: KeyId,
    role: String,
    name: String,
    end_user: Option<String>,
    /// Names by which approval policies find it.
    groups: Vec<String>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<KeyRow> for Key {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            role: row.role,
            name: row.name,
            end_user: row.end_user,
            groups: row.groups,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// What a pass of a sweep did.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SweepReport")]
pub struct Report {
    sweep_id: SweepId,
    scanned: i64,
    cleaned_up: i64,
    failed: i64,
    skipped: i64,
    total: i64,
}

impl Report {
    /// Of that pass.
    pub fn new(id: SweepId, report: SweepReport) -> Self {
        Self {
            sweep_id: id,
            scanned: report.scanned,
            cleaned_up: report.cleaned_up,
            failed: report.failed,
            skipped: report.skipped,
            total: report.total(),
        }
    }
}

/// A past pass of a sweep.
#[derive(Serialize, JsonSchema)]
pub struct Sweep {
    #[serde(flatten)]
    report: Report,
    kind: SweepKind,
    source: &'static str,
    dry_run: bool,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl From<SweepRow> for Sweep {
    fn from(row: SweepRow) -> Self {
        Self {
            report: Report::new(row.start.id, row.report),
            kind: row.start.kind,
            source: row.start.source.as_str(),
            dry_run: row.start.dry_run,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// A message that could not be carried out.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ParkedMessage")]
pub struct Parked {
    id: ParkedId,
    queue: String,
    message_id: Option<String>,
    kind: Option<String>,
    /// Why, in one word.
    code: String,
    reason: String,
    /// The key that it was sent with, if that was good.
    key_id: Option<KeyId>,
    properties: Json,
    headers: Json,
    /// As text, where it is UTF-8 and was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    body_bytes: i64,
    body_digest: String,
    parked_at: Timestamp,
}

impl From<ParkedMessage> for Parked {
    fn from(row: ParkedMessage) -> Self {
        Self {
            id: row.id,
            queue: row.queue,
            message_id: row.message_id,
            kind: row.kind,
            code: row.code,
            reason: row.reason,
            key_id: row.key,
            properties: raw(row.properties),
            headers: raw(row.headers),
            body: row.body.and_then(|bytes| String::from_utf8(bytes).ok()),
            body_bytes: row.body_bytes,
            body_digest: row.body_digest,
            parked_at: row.parked_at,
        }
    }
}
