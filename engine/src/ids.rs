//! Identifiers: TypeIDs (a prefix and a UUIDv7 in Crockford base32, specification 0.3).
//!
//! The engine never makes randomness of its own: a new id is built from a time and from
//! random bytes that the caller brings (see [`crate::entropy::Entropy`]).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::entropy::Entropy;
use crate::time::Timestamp;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an id of the form {prefix}_ followed by 26 characters of lower-case base32")]
pub struct BadId {
    prefix: &'static str,
    given: String,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LEN: usize = 26;

fn encode(uuid: Uuid) -> String {
    let value = uuid.as_u128();
    (0..SUFFIX_LEN).rev().map(|place| ALPHABET[((value >> (5 * place)) & 31) as usize] as char).collect()
}

fn decode(suffix: &str) -> Option<Uuid> {
    // 26 characters carry 130 bits: a first character above 7 would overflow the 128.
    if suffix.len() != SUFFIX_LEN || suffix.as_bytes()[0] > b'7' {
        return None;
    }
    suffix
        .bytes()
        .try_fold(0u128, |value, byte| {
            let digit = ALPHABET.iter().position(|known| *known == byte)?;
            Some((value << 5) | digit as u128)
        })
        .map(Uuid::from_u128)
}

/// A UUIDv7 from a time and the caller's entropy.
pub fn uuid_v7(now: Timestamp, entropy: &mut Entropy) -> Uuid {
    let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &entropy.bytes10()).into_uuid()
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, made of the time and the caller's entropy.
            pub fn new(now: Timestamp, entropy: &mut Entropy) -> Self {
                Self(uuid_v7(now, entropy))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| BadId {
                        prefix: $prefix,
                        given: text.chars().take(64).collect(),
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")})
            }
        }
    };
}

typed_id!(
    /// One execution.
    ExecutionId,
    "exe"
);
typed_id!(
    /// One request for a decision.
    ApprovalId,
    "apr"
);
typed_id!(
    /// One schedule; another one that is made under the same name has another.
    ScheduleId,
    "sch"
);
typed_id!(
    /// One pass of a sweep.
    SweepId,
    "swp"
);
typed_id!(
    /// One API key (the id is public, the secret is not part of it).
    KeyId,
    "key"
);
typed_id!(
    /// One parked message.
    ParkedId,
    "prk"
);
typed_id!(
    /// One worker session: the holder of leases.
    SessionId,
    "ses"
);
typed_id!(
    /// One event as it is told outside.
    EventId,
    "evt"
);
typed_id!(
    /// One file that was uploaded.
    FileId,
    "fil"
);
typed_id!(
    /// One standing grant.
    GrantId,
    "grt"
);
typed_id!(
    /// One webhook.
    WebhookId,
    "whk"
);

impl ParkedId {
    /// The id of the message with this SHA-256 in hex: parked twice, it is the same one.
    pub fn of_digest(digest: &str) -> Self {
        let bits = digest.get(..32).and_then(|hex| u128::from_str_radix(hex, 16).ok()).unwrap_or_default();
        Self(uuid::Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_examples_are_met() {
        let nil = ExecutionId(Uuid::nil());
        assert_eq!(nil.to_string(), "exe_00000000000000000000000000");
        let max = ExecutionId(Uuid::max());
        assert_eq!(max.to_string(), "exe_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        let valid = "exe_01h455vb4pex5vsknk084sn02q";
        let id: ExecutionId = valid.parse().expect("valid");
        assert_eq!(id.0.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
        assert_eq!(id.to_string(), valid);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for bad in [
            "",
            "exe",
            "exe_",
            "exe_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "exe_01h455vb4pex5vsknk084sn02",
            "exe_01H455VB4PEX5VSKNK084SN02Q",
            "apr_01h455vb4pex5vsknk084sn02q",
            "exe_01h455vb4pex5vsknk084sn0ü",
            "exe_01h455vb4pex5vsknk084sn02u",
        ] {
            assert!(bad.parse::<ExecutionId>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn ids_made_later_sort_later() {
        let mut entropy = Entropy::from_seed(7);
        let early = ExecutionId::new(Timestamp::from_micros(1_000_000), &mut entropy);
        let late = ExecutionId::new(Timestamp::from_micros(2_000_000), &mut entropy);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }
}
