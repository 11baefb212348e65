//! Secrets: named in definitions, looked up here at the last moment, and taken out of
//! whatever comes back, so that they reach no journal, log, event or error.

use std::collections::{BTreeMap, BTreeSet};

use holdpoint_engine::status::ErrorType;
use reqwest::header::HeaderMap;

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

    /// Their names, by tenant, in lower case.
    pub fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let names = |secrets: &BTreeMap<String, String>| secrets.keys().cloned().collect();
        self.by_tenant.iter().map(|(tenant, secrets)| (tenant.clone(), names(secrets))).collect()
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

/// What must not be seen in whatever comes back from a call.
#[derive(Default)]
pub(crate) struct Hidden(Vec<String>);

impl Hidden {
    /// A secret, where the call has one.
    pub fn of(secret: Option<&str>) -> Self {
        let mut hidden = Self::default();
        secret.into_iter().for_each(|secret| hidden.add(secret));
        hidden
    }

    /// Headers of the caller: a credential after its scheme's name (`Bearer …`) is one by itself.
    pub fn and_headers(mut self, headers: &HeaderMap) -> Self {
        for value in headers.values().filter_map(|value| value.to_str().ok()) {
            self.add(value);
            if let Some((_, credential)) = value.split_once(' ') {
                self.add(credential.trim());
            }
        }
        self
    }

    /// One more.
    pub fn add(&mut self, text: &str) {
        if text.len() >= SHORTEST_HIDDEN {
            // As it stands inside a JSON string, too.
            let quoted = serde_json::Value::from(text).to_string();
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
            if inner != text {
                self.0.push(inner.to_owned());
            }
            self.0.push(text.to_owned());
            // The longest first: what is part of another is found in what is left.
            self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
        }
    }

    /// The text without any of it.
    pub fn out_of(&self, mut text: String) -> String {
        for hidden in &self.0 {
            if text.contains(hidden) {
                text = text.replace(hidden, "[secret]");
            }
        }
        text
    }

    /// The bytes without any of it, text or not.
    pub fn out_of_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut left = bytes.to_vec();
        for hidden in &self.0 {
            left = without(&left, hidden.as_bytes());
        }
        left
    }

    /// The fault without any of it.
    pub fn out_of_fault(&self, mut fault: Fault) -> Fault {
        fault.failure.message = self.out_of(fault.failure.message);
        fault
    }
}

fn without(bytes: &[u8], hidden: &[u8]) -> Vec<u8> {
    let mut left = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(hidden.len()).position(|part| part == hidden) {
        left.extend_from_slice(&rest[..at]);
        left.extend_from_slice(b"[secret]");
        rest = &rest[at + hidden.len()..];
    }
    left.extend_from_slice(rest);
    left
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
        let out_of = |secret, text: &str| Hidden::of(secret).out_of(text.to_owned());
        assert_eq!(out_of(Some("sk-123456"), "a sk-123456 b"), "a [secret] b");
        assert_eq!(out_of(Some("x"), "a x b"), "a x b");
        assert_eq!(out_of(None, "plain"), "plain");
    }

    #[test]
    fn a_caller_s_header_that_comes_back_is_hidden_whole_and_in_part() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer tok-123456".parse().expect("a value"));
        headers.insert("x-quoted", "say \"sesame\"".parse().expect("a value"));
        let hidden = Hidden::of(Some("sk-123456")).and_headers(&headers);
        let said = r#"{"a":"Bearer tok-123456","b":"tok-123456","c":"say \"sesame\"","d":"sk-123456"}"#;
        let left = hidden.out_of(said.to_owned());
        assert_eq!(left, r#"{"a":"[secret]","b":"[secret]","c":"[secret]","d":"[secret]"}"#);
    }
}
