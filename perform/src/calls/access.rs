//! How a call authenticates: secrets are looked up here, at the last moment, and what they
//! become stands in one header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdpoint_engine::effect::{Credential, Credentials};
use holdpoint_engine::status::ErrorType;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::Deadline;
use super::tokens::{Client, Token};
use crate::secrets::Hidden;
use crate::{Fault, Performer};

/// The header `authorization` of a call, and what must not be seen of it.
#[derive(Default)]
pub(crate) struct Access {
    pub header: Option<HeaderValue>,
    pub hidden: Hidden,
    /// A token that was fetched for an earlier call: the server may know it no more.
    pub kept: Option<(Client, Token)>,
}

/// The value of a secret that stands for a basic policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicPolicy {
    username: String,
    password: String,
}

/// The value of a secret that stands for an OAuth2 policy, as a workflow would write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OAuth2Policy {
    authority: String,
    #[serde(default)]
    endpoints: Endpoints,
    grant: String,
    client: ClientPolicy,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoints {
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientPolicy {
    id: String,
    secret: String,
    authentication: Option<String>,
}

impl Performer {
    /// What the credentials come to now. A token may be fetched for it: all of its faults are
    /// definite, because the call itself was not sent.
    pub(crate) async fn access(
        &self,
        tenant: &str,
        credentials: Option<&Credentials>,
        deadline: Deadline,
    ) -> Result<Access, Fault> {
        let Some(credentials) = credentials else { return Ok(Access::default()) };
        let mut hidden = Hidden::default();
        let client = match credentials {
            Credentials::Basic { username, password } => {
                let username = self.value(tenant, username, &mut hidden)?;
                return basic(username, self.value(tenant, password, &mut hidden)?, hidden);
            }
            Credentials::BasicSecret(name) => {
                let policy: BasicPolicy = self.policy(tenant, name)?;
                hidden.add(&policy.password);
                return basic(&policy.username, &policy.password, hidden);
            }
            Credentials::Bearer(token) => {
                let token = self.value(tenant, token, &mut hidden)?;
                return Ok(Access { header: Some(bearer(token)?), hidden, kept: None });
            }
            Credentials::OAuth2 { .. } | Credentials::OAuth2Secret(_) => {
                self.client(tenant, credentials, &mut hidden)?
            }
        };
        self.token_access(client, hidden, deadline).await
    }

    /// The same with another token, where the server refused one that was kept.
    pub(crate) async fn renewed(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<Result<Access, Access>, Fault> {
        let Access { header, hidden, kept } = access;
        let Some((client, token)) = kept else { return Ok(Err(Access { header, hidden, kept })) };
        self.tokens.forget(&client, &token).await;
        self.token_access(client, hidden, deadline).await.map(Ok)
    }

    async fn token_access(
        &self,
        client: Client,
        mut hidden: Hidden,
        deadline: Deadline,
    ) -> Result<Access, Fault> {
        let (token, was_kept) = self.token(&client, &hidden, deadline).await?;
        hidden.add(token.value());
        let header = Some(bearer(token.value())?);
        Ok(Access { header, hidden, kept: was_kept.then_some((client, token)) })
    }

    fn client(&self, tenant: &str, credentials: &Credentials, hidden: &mut Hidden) -> Result<Client, Fault> {
        match credentials {
            Credentials::OAuth2 { token_endpoint, client_id, client_secret, scopes, audiences, in_body } => {
                Ok(Client {
                    tenant: tenant.to_owned(),
                    endpoint: token_endpoint.clone(),
                    id: self.value(tenant, client_id, hidden)?.to_owned(),
                    secret: self.value(tenant, client_secret, hidden)?.to_owned(),
                    scopes: scopes.clone(),
                    audiences: audiences.clone(),
                    in_body: *in_body,
                })
            }
            Credentials::OAuth2Secret(name) => {
                let policy: OAuth2Policy = self.policy(tenant, name)?;
                hidden.add(&policy.client.secret);
                policy.client_of(tenant).map_err(|what| unfit(name, what))
            }
            _ => Err(Fault::definite(ErrorType::Internal, "no token is fetched for these credentials")),
        }
    }

    /// A secret's value is hidden wherever it comes back.
    fn value<'a>(
        &'a self,
        tenant: &str,
        credential: &'a Credential,
        hidden: &mut Hidden,
    ) -> Result<&'a str, Fault> {
        match credential {
            Credential::Text(text) => Ok(text),
            Credential::Secret(name) => {
                let value = self.secret(tenant, name)?;
                hidden.add(value);
                Ok(value)
            }
        }
    }

    /// A missing one is an error of the type `authorization`, as the specification has it.
    fn secret(&self, tenant: &str, name: &str) -> Result<&str, Fault> {
        let found = self.secrets.find(tenant, Some(name)).map_err(|mut fault| {
            fault.failure.kind = ErrorType::Permission;
            fault
        });
        Ok(found?.unwrap_or_default())
    }

    /// The error says nothing of the value, not even what it holds in place of what is wanted.
    fn policy<T: for<'de> Deserialize<'de>>(&self, tenant: &str, name: &str) -> Result<T, Fault> {
        serde_json::from_str(self.secret(tenant, name)?)
            .map_err(|_| unfit(name, "is not the JSON of such an authentication"))
    }
}

impl OAuth2Policy {
    fn client_of(self, tenant: &str) -> Result<Client, &'static str> {
        if self.grant != "client_credentials" {
            return Err("has another grant than client_credentials");
        }
        let in_body = match self.client.authentication.as_deref() {
            None | Some("client_secret_post") => true,
            Some("client_secret_basic") => false,
            Some(_) => {
                return Err(
                    "has another client authentication than client_secret_post or client_secret_basic",
                );
            }
        };
        let path = self.endpoints.token.as_deref().unwrap_or("/oauth2/token");
        let below = || format!("{}/{}", self.authority.trim_end_matches('/'), path.trim_start_matches('/'));
        let endpoint = if path.contains("://") { path.to_owned() } else { below() };
        let (id, secret) = (self.client.id, self.client.secret);
        let (scopes, audiences) = (self.scopes, self.audiences);
        Ok(Client { tenant: tenant.to_owned(), endpoint, id, secret, scopes, audiences, in_body })
    }
}

fn unfit(name: &str, what: &str) -> Fault {
    Fault::definite(ErrorType::Auth, format!("the secret `{name}` {what}"))
}

fn bearer(token: &str) -> Result<HeaderValue, Fault> {
    sensitive(&format!("Bearer {token}"))
}

fn basic(username: &str, password: &str, mut hidden: Hidden) -> Result<Access, Fault> {
    let both = STANDARD.encode(format!("{username}:{password}"));
    hidden.add(&both);
    Ok(Access { header: Some(sensitive(&format!("Basic {both}"))?), hidden, kept: None })
}

fn sensitive(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Fault::definite(ErrorType::Auth, "the credentials have characters that no header may have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use std::time::Duration;

    fn performer(secrets: &[(&str, &str)]) -> Performer {
        let of = secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let settings = Settings { secrets: [("acme".to_owned(), of)].into(), ..Settings::default() };
        Performer::new(&settings, 1000).expect("a performer")
    }

    async fn header(performer: &Performer, credentials: Credentials) -> Result<String, String> {
        let deadline = Deadline::after(Duration::from_secs(5));
        let access = performer.access("acme", Some(&credentials), deadline).await;
        let access = access.map_err(|fault| fault.failure.to_string())?;
        Ok(access.header.expect("a header").to_str().expect("text").to_owned())
    }

    fn secret(name: &str) -> Credential {
        Credential::Secret(name.to_owned())
    }

    #[tokio::test]
    async fn secrets_become_one_header() {
        let performer =
            performer(&[("pw", "open-sesame"), ("both", r#"{"username":"ada","password":"open-sesame"}"#)]);
        let ada = "Basic YWRhOm9wZW4tc2VzYW1l".to_owned();
        let username = Credential::Text("ada".to_owned());
        let basic = Credentials::Basic { username, password: secret("pw") };
        assert_eq!(header(&performer, basic).await, Ok(ada.clone()));
        assert_eq!(header(&performer, Credentials::BasicSecret("both".to_owned())).await, Ok(ada));
        assert_eq!(
            header(&performer, Credentials::Bearer(secret("pw"))).await,
            Ok("Bearer open-sesame".to_owned())
        );
    }

    #[tokio::test]
    async fn a_secret_that_is_missing_or_unfit_is_named_and_not_told() {
        let performer = performer(&[("odd", r#"{"user":"open-sesame"}"#), ("line", "open\nsesame")]);
        let of = |credentials| header(&performer, credentials);
        for (credentials, what) in [
            (Credentials::Bearer(secret("none")), "`none`"),
            (Credentials::BasicSecret("odd".to_owned()), "`odd`"),
            (Credentials::OAuth2Secret("odd".to_owned()), "`odd`"),
            (Credentials::Bearer(secret("line")), "characters"),
        ] {
            let error = of(credentials).await.expect_err("refused");
            let kind = if what == "`none`" { "permission: " } else { "auth: " };
            assert!(error.starts_with(kind) && error.contains(what), "{error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn a_policy_in_a_secret_reads_as_a_workflow_writes_it() {
        let policy = |more: serde_json::Value| {
            let mut all = serde_json::json!({
                "authority": "https://id.example/realms/a/", "grant": "client_credentials",
                "client": {"id": "us", "secret": "sesame"}
            });
            for (name, value) in more.as_object().expect("members") {
                all[name] = value.clone();
            }
            let policy: OAuth2Policy = serde_json::from_value(all).expect("a policy");
            policy.client_of("acme")
        };
        let plain = policy(serde_json::json!({})).expect("a client");
        assert_eq!(plain.endpoint, "https://id.example/realms/a/oauth2/token");
        assert!(plain.in_body);
        let other = serde_json::json!({
            "endpoints": {"token": "/t"},
            "client": {"id": "us", "secret": "sesame", "authentication": "client_secret_basic"}
        });
        let other = policy(other).expect("a client");
        assert_eq!((&*other.endpoint, other.in_body), ("https://id.example/realms/a/t", false));
        assert!(policy(serde_json::json!({"grant": "password"})).is_err());
    }
}
