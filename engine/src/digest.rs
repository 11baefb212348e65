//! What a decision binds to, and the keys of effects.

use sha2::{Digest, Sha256};

use crate::ids::ExecutionId;
use crate::time::Timestamp;

/// Lower-case hex of the bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)] as char, DIGITS[usize::from(byte & 15)] as char])
        .collect()
}

/// SHA-256 of the bytes, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 over three parts, each preceded by its length as eight big-endian bytes: the
/// tool's name, the definition's version in decimal, and the exact bytes of the arguments.
/// The lengths keep two different triples from having the same concatenation.
pub fn arguments_digest(tool: &str, version: i32, arguments: &str) -> String {
    call_digest(tool, version, arguments, None)
}

/// The same; for a tool of an MCP server with a fourth part, the digest of the server's list
/// that the call was asked for under.
pub fn call_digest(tool: &str, version: i32, arguments: &str, list: Option<&str>) -> String {
    let mut hasher = Sha256::new();
    for part in [tool, &version.to_string(), arguments].into_iter().chain(list) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize())
}

/// The id of the execution that a step delegates to: made of the parent's time and of the
/// SHA-256 over parent and step, so that it is the same for every attempt.
pub fn child_id(parent: ExecutionId, step: i32) -> ExecutionId {
    derived_id(b"holdpoint child", parent, step, *parent.0.as_bytes())
}

/// The id of the run that repeats a failed one: made of the time at which that one ended and
/// of the SHA-256 over the first run and the attempt.
pub fn retry_id(first_run: ExecutionId, attempt: i32, ended_at: Timestamp) -> ExecutionId {
    let millis = u64::try_from(ended_at.micros() / 1000).unwrap_or_default();
    let time = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
    derived_id(b"holdpoint retry", first_run, attempt, *time.as_bytes())
}

fn derived_id(what: &[u8], of: ExecutionId, number: i32, mut bytes: [u8; 16]) -> ExecutionId {
    let mut hasher = Sha256::new();
    hasher.update(what);
    hasher.update(of.0.as_bytes());
    hasher.update(number.to_be_bytes());
    bytes[6..].copy_from_slice(&hasher.finalize()[..10]);
    ExecutionId(
        uuid::Builder::from_bytes(bytes)
            .with_version(uuid::Version::SortRand)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid(),
    )
}

/// The `Idempotency-Key` of a step's calls: the same for every attempt, and for every run
/// that takes the place of the first one.
pub fn effect_key(first_run: ExecutionId, step: i32) -> String {
    format!("{first_run}-{step}")
}

/// The same for a call that the author of a workflow has tried again: it follows from the call's
/// place in the workflow and what is sent.
pub fn retried_key(first_run: ExecutionId, place: &str) -> String {
    format!("{first_run}-{}", &sha256_hex(place.as_bytes())[..24])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_documented_one() {
        // printf '\0\0\0\0\0\0\0\6refund\0\0\0\0\0\0\0\1%s\0\0\0\0\0\0\0\2{}' 1 | sha256sum
        assert_eq!(
            arguments_digest("refund", 1, "{}"),
            sha256_hex(b"\0\0\0\0\0\0\0\x06refund\0\0\0\0\0\0\0\x011\0\0\0\0\0\0\0\x02{}")
        );
    }

    #[test]
    fn a_child_has_one_id_for_each_step() {
        let mut entropy = crate::entropy::Entropy::from_seed(1);
        let at = Timestamp::from_micros(1_800_000_000_000_000);
        let (one, other) = (ExecutionId::new(at, &mut entropy), ExecutionId::new(at, &mut entropy));
        assert_eq!(child_id(one, 2), child_id(one, 2));
        let ids = [child_id(one, 2), child_id(one, 3), child_id(other, 2), one, other];
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
        assert_eq!(child_id(one, 2).0.get_version_num(), 7);
        assert_eq!(child_id(one, 2).0.as_bytes()[..6], one.0.as_bytes()[..6]);
    }

    #[test]
    fn every_part_counts() {
        let digest = arguments_digest("refund", 1, "{\"amount\":1}");
        assert_ne!(digest, arguments_digest("refund", 2, "{\"amount\":1}"));
        assert_ne!(digest, arguments_digest("refunds", 1, "{\"amount\":1}"));
        assert_ne!(digest, arguments_digest("refund", 1, "{\"amount\": 1}"));
        assert_ne!(arguments_digest("ab", 1, "c"), arguments_digest("a", 1, "bc"));
        let of_list = |list| call_digest("refund", 1, "{\"amount\":1}", list);
        assert_eq!(of_list(None), digest);
        assert_ne!(of_list(Some("a")), digest);
        assert_ne!(of_list(Some("a")), of_list(Some("b")));
    }
}
