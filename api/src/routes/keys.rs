//! API keys of the caller's own tenant and project.

use axum::extract::State;
use axum::response::Response;
use holdpoint_engine::ids::KeyId;
use holdpoint_engine::policy::check_groups;
use holdpoint_engine::time::{Span, Timestamp};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::clock;
use crate::keys::{self, NewKey, Role};
use crate::openapi::Operation;
use crate::params::Segments;
use crate::problem::{Answer, Code, Problem};
use crate::view;

/// The longest name and end user, in bytes.
const NAME_BYTES: usize = 255;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    #[schemars(extend("enum" = ["admin", "submit", "approve", "read", "agent"]))]
    role: String,
    name: Option<String>,
    end_user: Option<String>,
    /// Names by which approval policies find the key.
    #[serde(default)]
    groups: Vec<String>,
    expires_at: Option<Timestamp>,
    expires_after: Option<Span>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedKey")]
struct Created {
    /// Shown here and never again.
    key: String,
    #[serde(flatten)]
    row: view::Key,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyList")]
struct List {
    keys: Vec<view::Key>,
}

/// `POST /v1/keys`: answers the key's text, once.
pub async fn create(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let new = new_key(&caller, &body.read()?)?;
    let row = new.row.clone();
    app.write(move |store| store.key_create(&row, &caller.key)).await??;
    Ok(view::json(StatusCode::CREATED, &Created { key: new.text, row: new.row.into() }))
}

fn new_key(caller: &Caller, body: &KeyBody) -> Answer<NewKey> {
    let invalid = |detail: &str| Problem::new(Code::InvalidBody, detail);
    let words = "`role`: it may be `admin`, `submit`, `approve`, `read` or `agent`";
    let role = Role::parse(&body.role).ok_or_else(|| invalid(words))?;
    let name = body.name.as_deref().unwrap_or("");
    let end_user = body.end_user.as_deref();
    // The end user is compared with a header, which holds nothing else.
    let plain = |text: &str| {
        (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    if name.len() > NAME_BYTES || !end_user.is_none_or(plain) {
        return Err(invalid("`name` may have 255 bytes, `end_user` 1 to 255 visible ASCII characters"));
    }
    check_groups(&body.groups).map_err(|message| invalid(&format!("`groups`: {message}")))?;
    let now = clock::now();
    let expires_at = match (body.expires_at, body.expires_after) {
        (Some(_), Some(_)) => {
            return Err(invalid("give `expires_at` or `expires_after`, not both"));
        }
        (at, after) => at.or_else(|| after.map(|after| now.plus(after.0))),
    };
    let mut key = keys::create(&caller.scope, role, name, end_user, expires_at, now).map_err(|error| {
        tracing::error!(%error, "no randomness for a key");
        Problem::internal()
    })?;
    key.row.groups.clone_from(&body.groups);
    Ok(key)
}

/// `GET /v1/keys`.
pub async fn list(State(app): Shared, caller: Caller) -> Answer {
    let scope = caller.scope;
    let rows = app.read(move |store| store.key_list(Some(&scope))).await?;
    Ok(view::ok(&List { keys: rows.into_iter().map(Into::into).collect() }))
}

/// `DELETE /v1/keys/{id}`: refused everywhere within a second.
pub async fn revoke(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let missing = || Problem::not_found("key", &id);
    let key: KeyId = id.parse().map_err(|_| missing())?;
    let scope = caller.scope;
    if !app.write(move |store| store.key_revoke(Some(&scope), key, &caller.key)).await?? {
        return Err(missing());
    }
    app.keys.forget(key);
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// What create takes and answers.
pub fn create_doc() -> Operation {
    Operation::new("key_create", "Makes a key; its text is shown once.")
        .body::<KeyBody>()
        .answer::<Created>(201, "With `key`, its text.")
}

/// What list answers.
pub fn list_doc() -> Operation {
    Operation::new("key_list", "The keys of this tenant and project, without their texts.")
        .answer::<List>(200, "All of them.")
}

/// What revoke answers.
pub fn revoke_doc() -> Operation {
    Operation::new("key_revoke", "Revokes: the key is refused everywhere within a second.")
        .empty(204, "It is revoked.")
}
