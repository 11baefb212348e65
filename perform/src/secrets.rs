//! Secrets: named in definitions, looked up here at the last moment, and taken out of
//! whatever comes back, so that they reach no journal, log, event or error.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use holdpoint_engine::status::ErrorType;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::header::HeaderMap;

use crate::Fault;

/// What a URI shows as it is (RFC 3986, 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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

    /// One more, in each spelling in which it may come back.
    pub fn add(&mut self, text: &str) {
        if text.len() < SHORTEST_HIDDEN {
            return;
        }
        self.0.extend(spellings(text));
        // The longest first: what is part of another is found in what is left.
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
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

/// A text as it is; inside of JSON, by encoders of several languages; in a URI and in a form; in
/// HTML; in base64.
fn spellings(text: &str) -> BTreeSet<String> {
    let quoted = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).to_owned()
    };
    let in_json = quoted(text);
    let escaped = ascii(&in_json);
    let in_uri = percent_encode(text.as_bytes(), UNRESERVED).to_string();
    let in_form: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let in_html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let mut all = BTreeSet::from([
        text.to_owned(),
        in_json.replace('/', "\\/"),
        escaped.replace('/', "\\/"),
        in_json,
        escaped,
        lower_hex(&in_uri),
        lower_hex(&in_form),
        in_uri,
        in_form,
        in_html.replace('\'', "&#39;"),
        in_html.replace('\'', "&#x27;"),
        in_html,
    ]);
    all.extend([STANDARD.encode(text), STANDARD_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(text)]);
    all
}

/// `%2f` for `%2F`.
fn lower_hex(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.extend(["%", &hex.to_ascii_lowercase(), rest]);
    }
    lower
}

/// The same JSON without a character beyond ASCII.
fn ascii(json: &str) -> String {
    let mut units = [0; 2];
    let escaped = |c: char| match c.is_ascii() {
        true => c.to_string(),
        false => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    json.chars().map(escaped).collect()
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
    fn a_secret_is_found_in_each_spelling() {
        let hidden = Hidden::of(Some("tok/a+b=é\"<c"));
        for came in [
            r#"tok/a+b=é"<c"#,
            r#"tok/a+b=é\"<c"#,
            r#"tok\/a+b=\u00e9\"<c"#,
            "tok%2Fa%2Bb%3D%C3%A9%22%3Cc",
            "tok%2fa%2bb%3d%c3%a9%22%3cc",
            "tok/a+b=é&quot;&lt;c",
            "dG9rL2ErYj3DqSI8Yw==",
            "dG9rL2ErYj3DqSI8Yw",
        ] {
            assert_eq!(hidden.out_of(format!("was {came}.")), "was [secret].", "{came}");
        }
    }

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
