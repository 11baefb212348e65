//! Secrets: named in definitions, looked up here at the last moment, and taken out of
//! whatever comes back, so that they reach no journal, log, event or error.

use std::collections::BTreeMap;

use holdpoint_engine::status::ErrorType;

use crate::Fault;

/// A secret shorter than this is not looked for in answers: it would match by chance.
const SHORTEST_HIDDEN: usize = 6;

pub(crate) struct Secrets {
    by_tenant: BTreeMap<String, BTreeMap<String, String>>,
}

impl Secrets {
    /// Names and tenants are compared without case: the environment has none.
    pub fn new(settings: &BTreeMap<String, BTreeMap<String, String>>) -> Self {
        let lower = |text: &String| text.to_ascii_lowercase();
        let by_tenant = settings
            .iter()
            .map(|(tenant, secrets)| {
                (lower(tenant), secrets.iter().map(|(name, value)| (lower(name), value.clone())).collect())
            })
            .collect();
        Self { by_tenant }
    }

    /// The tenant's secret of that name; a missing one is an `auth` failure that names it.
    pub fn find(&self, tenant: &str, name: Option<&str>) -> Result<Option<&str>, Fault> {
        let Some(name) = name else { return Ok(None) };
        let found = self
            .by_tenant
            .get(&tenant.to_ascii_lowercase())
            .and_then(|secrets| secrets.get(&name.to_ascii_lowercase()));
        match found {
            Some(secret) => Ok(Some(secret)),
            None => Err(Fault::definite(ErrorType::Auth, format!("the secret `{name}` is not configured"))),
        }
    }
}

/// The text without the secret.
pub(crate) fn hide(text: String, secret: Option<&str>) -> String {
    match secret {
        Some(secret) if secret.len() >= SHORTEST_HIDDEN && text.contains(secret) => {
            text.replace(secret, "[secret]")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_sees_its_own_secrets_only() {
        let secrets =
            Secrets::new(&[("acme".to_owned(), [("Key".to_owned(), "sk-123456".to_owned())].into())].into());
        assert!(matches!(secrets.find("acme", Some("key")), Ok(Some("sk-123456"))));
        assert!(secrets.find("other", Some("key")).is_err());
        assert!(secrets.find("acme", Some("none")).is_err());
        assert!(matches!(secrets.find("acme", None), Ok(None)));
    }

    #[test]
    fn a_secret_that_comes_back_is_hidden() {
        assert_eq!(hide("a sk-123456 b".to_owned(), Some("sk-123456")), "a [secret] b");
        assert_eq!(hide("a x b".to_owned(), Some("x")), "a x b");
        assert_eq!(hide("plain".to_owned(), None), "plain");
    }
}
