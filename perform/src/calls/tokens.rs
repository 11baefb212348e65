//! Tokens of the client credentials grant, kept in this process until shortly before they
//! expire. One fetch for each client at a time: whoever comes meanwhile waits for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_engine::status::ErrorType;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::{Deadline, reachable, server};
use crate::secrets::Hidden;
use crate::{Fault, Performer, retry_after, transport_fault};

/// A token is not used any more so long before it expires.
const MARGIN: Duration = Duration::from_secs(30);
/// How long a token is kept whose server does not say when it expires; a 401 ends it earlier.
const UNTOLD: Duration = Duration::from_secs(300);
/// No token is kept for longer, whatever its server says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Clients whose tokens are kept; when there are more, all are fetched again as needed.
const KEPT: usize = 1_000;
/// Bytes of an answer of a token endpoint.
const ANSWER_BYTES: usize = 64 * 1024;

/// Who fetches a token, where and for what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub tenant: String,
    pub endpoint: String,
    pub id: String,
    pub secret: String,
    pub scopes: Vec<String>,
    pub audiences: Vec<String>,
    pub in_body: bool,
}

/// A token; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// What the header carries.
    pub fn value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A client's token with the moment from which on it is not used, if there is one. The lock
/// is held while one is fetched.
type Place = Arc<tokio::sync::Mutex<Option<(Token, Instant)>>>;

/// All tokens of a process.
#[derive(Default)]
pub(crate) struct Tokens {
    places: Mutex<HashMap<Client, Place>>,
}

impl Tokens {
    fn place(&self, client: &Client) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= KEPT && !places.contains_key(client) {
            places.clear();
        }
        Arc::clone(places.entry(client.clone()).or_default())
    }

    /// A server refused this token. One that was fetched meanwhile stays.
    pub async fn forget(&self, client: &Client, token: &Token) {
        let place = self.place(client);
        let mut kept = place.lock().await;
        if kept.as_ref().is_some_and(|(kept, _)| kept == token) {
            *kept = None;
        }
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Value>,
}

impl Granted {
    /// How long the token is used; some servers write the number as text.
    fn lasts(&self) -> Duration {
        let said = self.expires_in.as_ref();
        let seconds = said.and_then(|said| said.as_u64().or_else(|| said.as_str()?.trim().parse().ok()));
        seconds.map_or(UNTOLD, Duration::from_secs).min(LONGEST).saturating_sub(MARGIN)
    }
}

impl Performer {
    /// The client's token, and whether it was fetched for an earlier call.
    pub(super) async fn token(
        &self,
        client: &Client,
        hidden: &Hidden,
        deadline: Deadline,
    ) -> Result<(Token, bool), Fault> {
        let place = self.tokens.place(client);
        let waited = tokio::time::timeout(deadline.left()?, place.lock()).await;
        let Ok(mut kept) = waited else { return Err(deadline.passed()) };
        if let Some((token, until)) = &*kept
            && *until > Instant::now()
        {
            return Ok((token.clone(), true));
        }
        let granted = self.fetch(client, deadline).await.map_err(|fault| hidden.out_of_fault(fault))?;
        let lasts = granted.lasts();
        let token = Token(granted.access_token);
        *kept = (!lasts.is_zero()).then(|| (token.clone(), Instant::now() + lasts));
        Ok((token, false))
    }

    async fn fetch(&self, client: &Client, deadline: Deadline) -> Result<Granted, Fault> {
        let url = reachable(self, &client.endpoint)?;
        let what = format!("the token endpoint {}", server(&url));
        let request = form(self.request(reqwest::Method::POST, url), client).timeout(deadline.left()?);
        // Nothing that fails here has sent the call.
        let not_sent =
            |fault: Fault| Fault { certainty: holdpoint_engine::effect::Certainty::Definite, ..fault };
        let response = request.send().await.map_err(|error| not_sent(transport_fault(&error, &what)))?;
        let (status, after) = (response.status(), retry_after(&response));
        let body = super::answer::read(response, ANSWER_BYTES, &what).await.map_err(not_sent)?;
        let read = serde_json::from_slice::<Granted>(&body).ok().filter(|_| status.is_success());
        let bearer = read.filter(|granted| {
            granted.token_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"))
        });
        bearer.ok_or_else(|| Fault { retry_after: after, ..refused(&what, status, &body) })
    }
}

fn form(request: RequestBuilder, client: &Client) -> RequestBuilder {
    let mut members = vec![("grant_type", "client_credentials".to_owned())];
    if !client.scopes.is_empty() {
        members.push(("scope", client.scopes.join(" ")));
    }
    if !client.audiences.is_empty() {
        members.push(("audience", client.audiences.join(" ")));
    }
    if client.in_body {
        members.push(("client_id", client.id.clone()));
        members.push(("client_secret", client.secret.clone()));
    }
    let request = request
        .header("accept", "application/json")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(super::request::form(members.iter().map(|(name, value)| (*name, value.as_str()))));
    if client.in_body {
        request
    } else {
        request.basic_auth(encoded(&client.id), Some(encoded(&client.secret)))
    }
}

/// In the header, both stand as a form would have them (RFC 6749, 2.3.1).
fn encoded(text: &str) -> String {
    super::request::form([("", text)].into_iter()).trim_start_matches('=').to_owned()
}

/// A 4xx means that we were not accepted, in the words of RFC 6749 where they are there.
fn refused(what: &str, status: StatusCode, body: &[u8]) -> Fault {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let word = |name: &str| said.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let words: Vec<String> = [word("error"), word("error_description")].into_iter().flatten().collect();
    let words: String = words.join(", ").chars().take(200).collect();
    let words = if words.is_empty() { words } else { format!(": {words}") };
    let kind = match ErrorType::of_http(status.as_u16()) {
        _ if status.is_success() => {
            let message = format!("{what} answered what is no bearer token{words}");
            return Fault::definite(ErrorType::Auth, message);
        }
        Some(ErrorType::Logic) | None => ErrorType::Auth,
        Some(kind) => kind,
    };
    Fault::definite(kind, format!("{what} answered {}{words}", status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasts(expires_in: Value) -> u64 {
        let granted = Granted { access_token: String::new(), token_type: None, expires_in: Some(expires_in) };
        granted.lasts().as_secs()
    }

    #[test]
    fn a_token_is_used_until_shortly_before_it_expires() {
        assert_eq!(lasts(3600.into()), 3570);
        assert_eq!(lasts("60".into()), 30);
        assert_eq!(lasts(20.into()), 0);
        assert_eq!(lasts(Value::Null), 270);
        assert_eq!(lasts(u64::MAX.into()), 24 * 3600 - 30);
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let body = br#"{"error":"invalid_client","error_description":"who?"}"#;
        let of = |status: u16| refused("it", StatusCode::from_u16(status).expect("a status"), body).failure;
        for (status, kind) in [
            (200, ErrorType::Auth),
            (302, ErrorType::Auth),
            (400, ErrorType::Auth),
            (401, ErrorType::Auth),
            (403, ErrorType::Permission),
            (429, ErrorType::RateLimit),
            (503, ErrorType::Network),
        ] {
            assert_eq!(of(status).kind, kind, "{status}");
            assert!(of(status).message.ends_with(": invalid_client, who?"));
        }
    }

    #[test]
    fn ids_and_secrets_stand_in_the_header_as_in_a_form() {
        assert_eq!(encoded("a b:c=d"), "a+b%3Ac%3Dd");
        assert_eq!(encoded("=x"), "%3Dx");
    }
}
