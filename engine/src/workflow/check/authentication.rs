//! Authentication: secrets are named, and nothing secret is written down.

use super::calls::check_uri;
use super::expressions::{Scope, enclosed};
use super::spot::Spot;
use super::{Checker, Maybe, flip};
use crate::scope::check_name;
use crate::workflow::document::{Authentication, Credential};
use crate::workflow::expression::Template;
use crate::workflow::read::Kind;

const KINDS: [&str; 6] = ["basic", "bearer", "certificate", "digest", "oauth2", "oidc"];
const OAUTH2_KEYS: [&str; 12] = [
    "authority",
    "endpoints",
    "grant",
    "client",
    "request",
    "issuers",
    "scopes",
    "audiences",
    "username",
    "password",
    "subject",
    "actor",
];
/// Where tokens are fetched, below the authority, where nothing is named.
const TOKEN_ENDPOINT: &str = "/oauth2/token";

/// What a header of that name holds is a credential.
pub(super) fn is_credential_header(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

impl<'n> Checker<'n, '_> {
    /// `authentication`: a policy, or `use` with the name of one.
    pub(super) fn authentication(&mut self, parent: &Spot<'n>, scope: Scope<'_>) -> Maybe<Authentication> {
        let Some(spot) = parent.get("authentication") else { return Some(None) };
        if let Some(name) = spot.get("use") {
            self.object(&spot, "a named authentication", &["use"])?;
            let policy = self.used(&name, "authentications")?;
            return self.policy(&policy, scope).map(Some);
        }
        self.policy(&spot, scope).map(Some)
    }

    pub(super) fn policy(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Authentication> {
        self.object(spot, "an authentication", &KINDS)?;
        let [only] = spot.members() else {
            return self.expected(spot, "one of `basic`, `bearer` and `oauth2`");
        };
        let inner = spot.member(only);
        match only.key.as_str() {
            "basic" => self.basic(&inner, scope),
            "bearer" => self.bearer(&inner, scope),
            "oauth2" => self.oauth2(&inner, scope),
            "oidc" => {
                let message = "`oidc` is not carried: use `oauth2` with `endpoints.token`";
                self.refuse(inner.wrong_key(message))
            }
            kind => self.refuse(inner.wrong_key(format!(
                "`{kind}` authentication is not carried: expected `basic`, `bearer` or `oauth2`"
            ))),
        }
    }

    fn basic(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Authentication> {
        if let Some(secret) = self.by_secret(spot)? {
            return Some(Authentication::BasicSecret(secret));
        }
        self.object(spot, "`basic`", &["username", "password"])?;
        let username = self.required(spot, "username").and_then(|found| self.public(&found, scope));
        let password = self.required(spot, "password").and_then(|found| self.credential(&found, scope));
        Some(Authentication::Basic { username: username?, password: password? })
    }

    fn bearer(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Authentication> {
        if let Some(secret) = self.by_secret(spot)? {
            return Some(Authentication::BearerSecret(secret));
        }
        self.object(spot, "`bearer`", &["token"])?;
        let token = self.required(spot, "token")?;
        self.credential(&token, scope).map(Authentication::Bearer)
    }

    fn oauth2(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Authentication> {
        if let Some(secret) = self.by_secret(spot)? {
            return Some(Authentication::OAuth2Secret(secret));
        }
        self.object(spot, "`oauth2`", &OAUTH2_KEYS)?;
        self.only_client_credentials(spot);
        let token_endpoint = self.token_endpoint(spot);
        let client = self.required(spot, "client").and_then(|client| self.client(&client, scope));
        let scopes = flip(spot.get("scopes").map(|found| self.texts(&found)));
        let audiences = flip(spot.get("audiences").map(|found| self.texts(&found)));
        let (client_id, client_secret, in_body) = client?;
        Some(Authentication::OAuth2 {
            token_endpoint: token_endpoint?,
            client_id,
            client_secret,
            scopes: scopes?.unwrap_or_default(),
            audiences: audiences?.unwrap_or_default(),
            in_body,
        })
    }

    /// Members that belong to other grants, or that nobody would look at.
    fn only_client_credentials(&mut self, spot: &Spot<'n>) {
        if let Some(grant) = self.required(spot, "grant")
            && grant.text() != Some("client_credentials")
        {
            let message =
                format!("{}: the grant that is carried is `client_credentials`", grant.node.describe());
            self.error(grant.wrong(message));
        }
        for key in ["username", "password", "subject", "actor"] {
            if let Some(found) = spot.get(key) {
                self.error(
                    found.wrong_key(format!("`{key}` belongs to another grant than `client_credentials`")),
                );
            }
        }
        if let Some(issuers) = spot.get("issuers") {
            self.error(issuers.wrong_key("`issuers` are not carried: a token is passed on unread"));
        }
        let Some(request) = spot.get("request") else { return };
        if self.object(&request, "`request`", &["encoding"]).is_some()
            && let Some(encoding) = request.get("encoding")
        {
            self.word(&encoding, &["application/x-www-form-urlencoded"]);
        }
    }

    fn token_endpoint(&mut self, spot: &Spot<'n>) -> Option<Template> {
        let path = match spot.get("endpoints") {
            Some(endpoints) => {
                self.object(&endpoints, "`endpoints`", &["token", "revocation", "introspection"])?;
                self.optional_text(&endpoints, "token")?.unwrap_or(TOKEN_ENDPOINT)
            }
            None => TOKEN_ENDPOINT,
        };
        let authority = self.required(spot, "authority")?;
        let text = self.text(&authority)?;
        let whole = match path.contains("://") {
            true => path.to_owned(),
            false => format!("{}/{}", text.trim_end_matches('/'), path.trim_start_matches('/')),
        };
        match check_uri(text).and_then(|()| check_uri(&whole)) {
            Ok(()) => Some(Template::Constant(whole.into())),
            Err(message) => self.refuse(authority.wrong(message)),
        }
    }

    /// The id, the secret, and whether they go into the body.
    fn client(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<(Credential, Credential, bool)> {
        self.object(spot, "`client`", &["id", "secret", "assertion", "authentication"])?;
        if let Some(assertion) = spot.get("assertion") {
            return self.refuse(assertion.wrong_key("assertions are not carried: a client has a secret"));
        }
        let id = self.required(spot, "id").and_then(|found| self.public(&found, scope));
        let secret = self.required(spot, "secret").and_then(|found| self.credential(&found, scope));
        let method = match spot.get("authentication") {
            Some(found) => self.word(&found, &["client_secret_post", "client_secret_basic"])?,
            None => "client_secret_post",
        };
        Some((id?, secret?, method == "client_secret_post"))
    }

    /// `use` of a policy: the secret that holds all of it.
    fn by_secret(&mut self, spot: &Spot<'n>) -> Maybe<String> {
        let Some(found) = spot.get("use") else { return Some(None) };
        self.object(spot, "a policy from a secret", &["use"])?;
        let name = self.text(&found)?;
        self.secret(&found, name).map(Some)
    }

    /// A secret that `use.secrets` names.
    fn secret(&mut self, spot: &Spot<'n>, name: &str) -> Option<String> {
        if let Err(message) = check_name(name) {
            return self.refuse(spot.wrong(message));
        }
        let known = self.uses.secrets();
        if !known.contains(&name) {
            let hint = super::names::nearest(name, known.into_iter())
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return self.refuse(spot.wrong(format!("there is no `{name}` in `use.secrets`{hint}")));
        }
        Some(name.to_owned())
    }

    /// What may be written down: a user's name, a client's id.
    fn public(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Credential> {
        let text = self.text(spot)?;
        if enclosed(text).is_some() || text.contains("${") {
            return self.credential(spot, scope);
        }
        Some(Credential::Plain(text.to_owned()))
    }

    /// What may not: `${ $secrets.NAME }`, or an expression over the task's input.
    fn credential(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Credential> {
        let source = match &spot.node.kind {
            Kind::Text(text) => enclosed(text),
            _ => None,
        };
        // What stands there is not told: it may be the secret.
        let Some(source) = source else {
            let message = "a credential in plain text: name a secret in `use.secrets`, and write `${ $secrets.NAME }` here";
            return self.refuse(spot.wrong(message));
        };
        match secret_name(source) {
            Some(name) => self.secret(spot, name).map(Credential::Secret),
            None => self.expression(spot, source, scope).map(Credential::Computed),
        }
    }
}

/// The name in `$secrets.NAME`, `$secrets["NAME"]` or `$secret.NAME`, where that is all.
fn secret_name(source: &str) -> Option<&str> {
    let rest = source.strip_prefix("$secrets").or_else(|| source.strip_prefix("$secret"))?;
    let quoted = rest.strip_prefix("[\"").and_then(|rest| rest.strip_suffix("\"]"));
    let plain = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    quoted.or_else(|| rest.strip_prefix('.')).filter(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_whole_credential() {
        for (source, name) in [
            ("$secrets.api_key", Some("api_key")),
            ("$secret.api_key", Some("api_key")),
            ("$secrets[\"api-key\"]", Some("api-key")),
            ("$secrets.api-key", Some("api-key")),
            ("$secrets", None),
            ("$secrets.a + \"x\"", None),
            ("$secrets[\"a\"] | length", None),
            (".token", None),
        ] {
            assert_eq!(secret_name(source), name, "{source}");
        }
    }

    #[test]
    fn headers_that_hold_credentials_are_known() {
        assert!(is_credential_header("Authorization"));
        assert!(!is_credential_header("accept"));
    }
}
