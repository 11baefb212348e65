//! Who calls, and what they may. Every route names a [`Right`] where it is listed; the
//! layer here answers 401, then 403, before the route sees anything of the request.
//!
//! A key that was found is believed for `key_cache_ms`, so that a revoked one is refused
//! within a second; one that was not found is asked for again each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdpoint_db::KeyRow;
use holdpoint_engine::ids::KeyId;
use holdpoint_engine::policy::Decider;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::trace::Traceparent;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use crate::app::App;
use crate::clock;
use crate::keys::{Role, SentKey};
use crate::problem::{Answer, Code, Problem};
use crate::spans::Begun;

/// The header that names the end user, where the key does not.
pub const END_USER: &str = "x-holdpoint-end-user";

/// The most keys that are remembered.
const CACHED_KEYS: usize = 10_000;

/// What a route asks of a key's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To look.
    Read,
    /// To start, cancel, pause and resume.
    Submit,
    /// To decide approvals and to resolve unknown outcomes.
    Decide,
    /// To put and delete definitions.
    Define,
    /// Keys, sweeps, parked messages.
    Admin,
}

impl Right {
    /// All of them.
    pub const ALL: &'static [Right] =
        &[Right::Read, Right::Submit, Right::Decide, Right::Define, Right::Admin];

    /// The word in `GET /v1/me`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Submit => "submit",
            Right::Decide => "decide",
            Right::Define => "define",
            Right::Admin => "admin",
        }
    }

    /// Whether that role has it.
    pub const fn of(self, role: Role) -> bool {
        match self {
            Right::Read => true,
            Right::Submit => matches!(role, Role::Admin | Role::Submit | Role::Agent),
            Right::Decide => matches!(role, Role::Admin | Role::Approve),
            Right::Define => matches!(role, Role::Admin | Role::Submit),
            Right::Admin => matches!(role, Role::Admin),
        }
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant and project, from the key and from nowhere else.
    pub scope: Scope,
    /// The key's id, for `decided_by` and the like.
    pub key: String,
    /// The end user: the key's, else the header's.
    pub end_user: Option<String>,
    /// The key's own end user, which a header cannot take the place of.
    pub own_end_user: Option<String>,
    /// The key's groups, by which approval policies find it.
    pub groups: Vec<String>,
    /// What the key is good for, for routes of which only some requests need a right.
    pub role: Role,
    /// The trace that the caller began.
    pub trace: Option<Traceparent>,
}

impl Caller {
    /// 403 where the key's role does not have that right.
    pub fn may(&self, right: Right) -> Answer<()> {
        if right.of(self.role) { Ok(()) } else { Err(forbidden(self.role.as_str())) }
    }

    /// Who they are where a decision is judged.
    pub fn decider(&self) -> Decider {
        Decider {
            key: self.key.clone(),
            role: self.role.as_str().to_owned(),
            groups: self.groups.clone(),
            end_user: self.own_end_user.clone(),
        }
    }

    /// Whether a row of that end user is theirs to see.
    pub fn sees(&self, end_user: Option<&str>) -> bool {
        self.end_user.is_none() || self.end_user.as_deref() == end_user
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    /// The layer put it there; a route without the layer has no caller.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(unauthorized)
    }
}

/// The layer before a route.
pub async fn require(
    State((app, right)): State<(Arc<App>, Right)>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&app, right, request.headers()).await {
        Ok(mut caller) => {
            caller.trace = request.extensions().get::<Begun>().map(|begun| begun.0);
            let span = tracing::Span::current();
            span.record("tenant", &*caller.scope.tenant);
            span.record("project", &*caller.scope.project);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn admit(app: &App, right: Right, headers: &HeaderMap) -> Answer<Caller> {
    let row = authenticate(app, bearer(headers)).await?;
    allow(&row, right, headers.get(END_USER).map(HeaderValue::as_bytes))
}

/// The key in force that this text is.
pub async fn authenticate(app: &App, text: Option<&str>) -> Answer<Arc<KeyRow>> {
    let sent = text.and_then(SentKey::parse).ok_or_else(unauthorized)?;
    let row = in_force(app, sent.id).await?;
    if sent.is(&row) { Ok(row) } else { Err(unauthorized()) }
}

/// The key of this id, if it is in force.
pub async fn in_force(app: &App, id: KeyId) -> Answer<Arc<KeyRow>> {
    let row = app.keys.find(app, id).await?.ok_or_else(unauthorized)?;
    let expired = row.expires_at.is_some_and(|at| at <= clock::now());
    if row.revoked_at.is_some() || expired { Err(unauthorized()) } else { Ok(row) }
}

/// The caller with this key, if its role has the right. `named` is the end user that the
/// caller names; a key's own goes before it.
pub fn allow(row: &KeyRow, right: Right, named: Option<&[u8]>) -> Answer<Caller> {
    let role = Role::parse(&row.role).filter(|role| right.of(*role));
    let role = role.ok_or_else(|| forbidden(&row.role))?;
    Ok(Caller {
        scope: row.scope.clone(),
        key: row.id.to_string(),
        end_user: end_user(row, named)?,
        own_end_user: row.end_user.clone(),
        groups: row.groups.clone(),
        role,
        trace: None,
    })
}

fn forbidden(role: &str) -> Problem {
    Problem::new(Code::Forbidden, format!("the role `{role}` may not do this"))
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    bearer_of(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// The token of `Bearer …`.
pub fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The same answer for no key and for any bad one.
pub fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, "send `Authorization: Bearer <key>` with a key that is in force")
}

fn end_user(row: &KeyRow, named: Option<&[u8]>) -> Answer<Option<String>> {
    if row.end_user.is_some() {
        return Ok(row.end_user.clone());
    }
    let Some(value) = named else {
        return Ok(None);
    };
    let visible = |text: &&str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match std::str::from_utf8(value).ok().filter(visible) {
        Some(text) if (1..=255).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(Problem::new(
            Code::InvalidParameter,
            format!("the header {END_USER} may be 1 to 255 visible ASCII characters"),
        )),
    }
}

struct Known {
    row: Arc<KeyRow>,
    read_at: Instant,
    asked_again: bool,
}

/// Callers with one key that wait for one look at the database; keys share these turns.
const TURNS: usize = 16;

/// Keys that were found a moment ago.
pub struct KeyCache {
    believed: Duration,
    known: Mutex<HashMap<KeyId, Known>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl KeyCache {
    /// Believes a key for so long.
    pub fn new(believed: Duration) -> Self {
        Self { believed, known: Mutex::new(HashMap::new()), turns: Default::default() }
    }

    /// The key's row, revoked and expired ones too.
    async fn find(&self, app: &App, id: KeyId) -> Answer<Option<Arc<KeyRow>>> {
        if let Some(row) = self.recent(id) {
            return Ok(Some(row));
        }
        let _turn = self.turns[id.0.as_u128() as usize % TURNS].lock().await;
        if let Some(row) = self.just_read(id) {
            return Ok(Some(row));
        }
        let read_at = Instant::now();
        let found = app.read(move |store| store.key_get(id)).await?.map(Arc::new);
        if let Some(row) = &found {
            self.remember(Arc::clone(row), read_at);
        }
        Ok(found)
    }

    /// In the second half of its time the first caller asks the database again while the
    /// others go on with what is known, so that a busy key's end is no stampede.
    fn recent(&self, id: KeyId) -> Option<Arc<KeyRow>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get_mut(&id)?;
        let age = entry.read_at.elapsed();
        if age >= self.believed {
            return None;
        }
        if age >= self.believed / 2 && !entry.asked_again {
            entry.asked_again = true;
            return None;
        }
        Some(Arc::clone(&entry.row))
    }

    /// What somebody else read while we waited for our turn.
    fn just_read(&self, id: KeyId) -> Option<Arc<KeyRow>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(&id).filter(|entry| entry.read_at.elapsed() < self.believed / 2)?;
        Some(Arc::clone(&entry.row))
    }

    fn remember(&self, row: Arc<KeyRow>, read_at: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_KEYS {
            known.retain(|_, entry| entry.read_at.elapsed() < self.believed);
        }
        if known.len() < CACHED_KEYS {
            known.insert(row.id, Known { row, read_at, asked_again: false });
        }
    }

    /// Forgets a key that this process has just revoked.
    pub fn forget(&self, id: KeyId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_contracts_rights() {
        let rights = [Right::Read, Right::Submit, Right::Decide, Right::Define, Right::Admin];
        let table = [
            (Role::Admin, [true, true, true, true, true]),
            (Role::Submit, [true, true, false, true, false]),
            (Role::Approve, [true, false, true, false, false]),
            (Role::Read, [true, false, false, false, false]),
            (Role::Agent, [true, true, false, false, false]),
        ];
        for (role, expected) in table {
            assert_eq!(rights.map(|right| right.of(role)), expected, "{role:?}");
        }
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(read("bearer abc"), Some("abc".to_owned()));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("abc"), None);
    }
}
