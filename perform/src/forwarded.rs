//! Headers that a caller sends along for tools: kept sealed with the execution, opened at the
//! last moment, given to the tools that list their names, and to nothing else.
//!
//! Each execution's headers are sealed with a key of its own, derived from the configured one,
//! and bound to tenant, project and id: what lies in one row opens in no other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdpoint_engine::status::ErrorType;
use holdpoint_engine::wire::ExecutionKey;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::{Fault, Origin, Performer};

/// The bytes of a configured key.
pub const KEY_BYTES: usize = 32;
/// What sealed headers begin with: the way they are sealed.
const VERSION: u8 = 1;
const PURPOSE: &[u8] = b"holdpoint forwarded_headers 1";

/// Values by lower-case name. What is in it never shows in a debug output.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ForwardedHeaders(BTreeMap<String, String>);

impl ForwardedHeaders {
    /// Adds one; `false` where the name, whatever its case, was there.
    pub fn insert(&mut self, name: &str, value: &str) -> bool {
        self.0.insert(name.to_ascii_lowercase(), value.to_owned()).is_none()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for ForwardedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where an effect finds the headers of its execution.
#[derive(Debug, Clone, Default)]
pub enum Forwarded {
    /// There are none.
    #[default]
    None,
    /// As they are kept with the execution.
    Sealed(Arc<[u8]>),
    /// As they came, for a run that is kept nowhere.
    Open(Arc<ForwardedHeaders>),
}

/// Why headers cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operator has configured no key.
    #[error("no key is configured: outbound.seal_keys")]
    NoKey,
    /// The system gives no random bytes.
    #[error("no randomness")]
    NoRandomness,
}

/// The configured keys: the first seals, all of them open.
pub(crate) struct Seals {
    keys: Vec<Prk>,
    random: SystemRandom,
}

impl Seals {
    /// An error names the setting, and never the key.
    pub fn new(keys: &[String]) -> Result<Self, String> {
        let read = |(index, text): (usize, &String)| {
            let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == KEY_BYTES);
            bytes.map(|bytes| Salt::new(HKDF_SHA256, PURPOSE).extract(&bytes)).ok_or_else(|| {
                format!("outbound.seal_keys[{index}] is not {KEY_BYTES} bytes as base64: make one by `openssl rand -base64 {KEY_BYTES}`")
            })
        };
        let keys = keys.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { keys, random: SystemRandom::new() })
    }

    fn seal(&self, key: &ExecutionKey, headers: &ForwardedHeaders) -> Result<Vec<u8>, SealError> {
        self.seal_bytes(PURPOSE, &bound(key), serde_json::to_vec(headers).unwrap_or_default())
    }

    fn open(&self, key: &ExecutionKey, sealed: &[u8]) -> Option<ForwardedHeaders> {
        serde_json::from_slice(&self.open_bytes(PURPOSE, &bound(key), sealed)?).ok()
    }

    /// Seals for one purpose and one row: it opens for no other.
    pub(crate) fn seal_bytes(
        &self,
        purpose: &[u8],
        bound: &[u8],
        mut text: Vec<u8>,
    ) -> Result<Vec<u8>, SealError> {
        let Some(first) = self.keys.first() else { return Err(SealError::NoKey) };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let tag = derived(first, purpose, bound)
            .and_then(|key| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_separate_tag(nonce, Aad::from(bound), &mut text).ok()
            })
            .ok_or(SealError::NoRandomness)?;
        Ok([&[VERSION][..], &nonce, &text, tag.as_ref()].concat())
    }

    /// Opens what [`Seals::seal_bytes`] sealed for the same purpose and row.
    pub(crate) fn open_bytes(&self, purpose: &[u8], bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let with = |configured: &Prk| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = text.to_vec();
            let key = derived(configured, purpose, bound)?;
            Some(key.open_in_place(nonce, Aad::from(bound), &mut text).ok()?.to_vec())
        };
        (*version == VERSION).then(|| self.keys.iter().find_map(with))?
    }
}

/// What the seal is bound to, each part with its length before it.
fn bound(key: &ExecutionKey) -> Vec<u8> {
    let id = key.id.to_string();
    [&*key.scope.tenant, &*key.scope.project, &*id]
        .into_iter()
        .flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.bytes()))
        .collect()
}

/// The row's own key: no nonce can be used twice by two of them.
fn derived(configured: &Prk, purpose: &[u8], bound: &[u8]) -> Option<LessSafeKey> {
    let info = [purpose, bound];
    let key = configured.expand(&info, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(key)))
}

impl Performer {
    /// Seals headers for this execution.
    pub fn seal(&self, key: &ExecutionKey, headers: &ForwardedHeaders) -> Result<Vec<u8>, SealError> {
        self.seals.seal(key, headers)
    }

    /// The same headers, sealed for another execution: a child has its parent's. `None` where no
    /// key opens them.
    pub fn seal_again(&self, from: &ExecutionKey, to: &ExecutionKey, sealed: &[u8]) -> Option<Vec<u8>> {
        let headers = self.seals.open(from, sealed)?;
        self.seals.seal(to, &headers).ok()
    }

    /// The headers among `names` that the execution's caller sent.
    pub(crate) fn forwarded(&self, names: &[String], origin: &Origin) -> Result<HeaderMap, Fault> {
        if names.is_empty() {
            return Ok(HeaderMap::new());
        }
        match &origin.forwarded {
            Forwarded::None => Ok(HeaderMap::new()),
            Forwarded::Open(headers) => Ok(listed(names, headers)),
            Forwarded::Sealed(sealed) => {
                let opened = self.seals.open(&origin.key, sealed).ok_or_else(|| {
                    let message = "the execution's forwarded headers cannot be opened: outbound.seal_keys \
                                   has not the key that sealed them";
                    Fault::definite(ErrorType::Auth, message)
                })?;
                Ok(listed(names, &opened))
            }
        }
    }
}

fn listed(names: &[String], headers: &ForwardedHeaders) -> HeaderMap {
    let lower = names.iter().map(|name| name.to_ascii_lowercase());
    let found = lower.filter_map(|name| {
        let value = headers.0.get(&name)?;
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::entropy::Entropy;
    use holdpoint_engine::ids::ExecutionId;
    use holdpoint_engine::scope::Scope;
    use holdpoint_engine::time::Timestamp;

    fn key(tenant: &str, project: &str, seed: u64) -> ExecutionKey {
        let mut entropy = Entropy::from_seed(seed);
        let id = ExecutionId::new(Timestamp::from_micros(1_800_000_000_000_000), &mut entropy);
        ExecutionKey { scope: Scope::new(tenant, project), id }
    }

    fn seals(keys: &[u8]) -> Seals {
        let keys: Vec<String> = keys.iter().map(|byte| STANDARD.encode([*byte; KEY_BYTES])).collect();
        Seals::new(&keys).expect("good keys")
    }

    fn headers() -> ForwardedHeaders {
        let mut headers = ForwardedHeaders::default();
        assert!(headers.insert("X-Token", "sesame-street"));
        assert!(!headers.insert("x-token", "sesame-street"), "a name has no case");
        headers
    }

    #[test]
    fn what_is_sealed_opens_for_its_execution_only() {
        let (seals, own) = (seals(&[1]), key("acme", "shop", 1));
        let sealed = seals.seal(&own, &headers()).expect("sealed");
        assert_eq!(seals.open(&own, &sealed), Some(headers()));
        let same_id =
            |tenant: &str, project: &str| ExecutionKey { scope: Scope::new(tenant, project), ..own.clone() };
        for other in [
            key("acme", "shop", 2),
            same_id("acme", "sho"),
            same_id("acm", "eshop"),
            same_id("other", "shop"),
        ] {
            assert_eq!(seals.open(&other, &sealed), None, "{other:?}");
        }
    }

    #[test]
    fn sealed_headers_do_not_show_and_cannot_be_changed() {
        let (seals, own) = (seals(&[1]), key("acme", "shop", 1));
        let sealed = seals.seal(&own, &headers()).expect("sealed");
        assert!(!sealed.windows(8).any(|part| part == b"sesame-s" || part == b"x-token\""));
        assert_ne!(seals.seal(&own, &headers()).expect("again"), sealed, "another nonce each time");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(seals.open(&own, &altered), None, "byte {at}");
        }
        for length in 0..sealed.len() {
            assert_eq!(seals.open(&own, &sealed[..length]), None, "{length} bytes");
        }
        assert!(!format!("{:?}", headers()).contains("sesame"));
    }

    #[test]
    fn a_key_is_replaced_by_putting_another_before_it() {
        let own = key("acme", "shop", 1);
        let old = seals(&[1]).seal(&own, &headers()).expect("sealed");
        let rotated = seals(&[2, 1]);
        assert_eq!(rotated.open(&own, &old), Some(headers()), "the old one still opens");
        let new = rotated.seal(&own, &headers()).expect("sealed");
        assert_eq!(seals(&[2]).open(&own, &new), Some(headers()), "the first one seals");
        assert_eq!(seals(&[2]).open(&own, &old), None);
        assert_eq!(seals(&[]).seal(&own, &headers()), Err(SealError::NoKey));
    }

    #[test]
    fn a_bad_key_is_named_and_not_told() {
        for bad in ["", "short", "c2hvcnQ="] {
            let error = Seals::new(&[STANDARD.encode([1; 32]), bad.to_owned()]).err().expect("refused");
            assert!(error.contains("outbound.seal_keys[1]"), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn only_listed_names_are_given() {
        let mut all = headers();
        all.insert("cookie", "a=b");
        let given = listed(&["X-TOKEN".to_owned(), "accept-language".to_owned()], &all);
        assert_eq!(given.len(), 1);
        assert_eq!(given["x-token"], "sesame-street");
        assert!(given["x-token"].is_sensitive());
    }
}
