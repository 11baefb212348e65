//! API keys: `hp_<id>_<secret>_<checksum>`.
//!
//! The id finds the row, of the secret only a SHA-256 is stored, and the checksum tells a
//! mistyped or cut-off key from a good one without asking the database. The text of a key
//! is shown once, when it is made.

use holdpoint_db::KeyRow;
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::KeyId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use subtle::ConstantTimeEq;

use crate::clock;

/// Characters without look-alikes, five bits each.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 40 characters of five bits: 200 bits.
const SECRET_LEN: usize = 40;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything, keys and sweeps too.
    Admin,
    /// Starts, cancels, pauses, resumes, defines agents, reads.
    Submit,
    /// Decides approvals, resolves unknown outcomes, reads.
    Approve,
    /// Reads.
    Read,
    /// What an agent gets: submits and reads, never decides or defines.
    Agent,
}

impl Role {
    /// All of them.
    pub const ALL: &'static [Role] = &[Role::Admin, Role::Submit, Role::Approve, Role::Read, Role::Agent];

    /// The word in rows and bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Submit => "submit",
            Role::Approve => "approve",
            Role::Read => "read",
            Role::Agent => "agent",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == name)
    }
}

/// A key as it is shown once, and the row that is stored.
pub struct NewKey {
    /// Shown once.
    pub text: String,
    /// Stored.
    pub row: KeyRow,
}

/// Makes a key; storing its row is the caller's. Fails only where the system has no randomness.
pub fn create(
    scope: &Scope,
    role: Role,
    name: &str,
    end_user: Option<&str>,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<NewKey, getrandom::Error> {
    let id = KeyId::new(now, &mut Entropy::from_seed(clock::seed()?));
    let secret = secret()?;
    let row = KeyRow {
        id,
        scope: scope.clone(),
        role: role.as_str().to_owned(),
        name: name.to_owned(),
        end_user: end_user.map(str::to_owned),
        groups: Vec::new(),
        secret_hash: sha256_hex(secret.as_bytes()),
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    Ok(NewKey { text: text(id, &secret), row })
}

fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| ALPHABET[usize::from(byte & 31)] as char).collect())
}

fn text(id: KeyId, secret: &str) -> String {
    let id = id.to_string();
    let body = format!("hp_{}_{secret}", &id[KeyId::PREFIX.len() + 1..]);
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{body}_{checksum:08x}")
}

/// A key that a caller sent, taken apart.
pub(crate) struct SentKey<'a> {
    pub id: KeyId,
    secret: &'a str,
}

impl<'a> SentKey<'a> {
    /// `None` for what is no key at all.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (body, checksum) = text.rsplit_once('_')?;
        if checksum != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let (id, secret) = body.strip_prefix("hp_")?.split_once('_')?;
        let id = format!("{}_{id}", KeyId::PREFIX).parse().ok()?;
        (secret.len() == SECRET_LEN).then_some(Self { id, secret })
    }

    /// Whether it is that key; takes the same time for any wrong one.
    pub fn is(&self, row: &KeyRow) -> bool {
        sha256_hex(self.secret.as_bytes()).as_bytes().ct_eq(row.secret_hash.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key() -> NewKey {
        let scope = Scope::new("acme", "shop");
        create(&scope, Role::Submit, "ci", Some("u1"), None, Timestamp::from_micros(5_000)).unwrap()
    }

    #[test]
    fn a_key_is_read_back_and_only_its_hash_is_stored() {
        let new = key();
        let sent = SentKey::parse(&new.text).unwrap();
        assert_eq!(sent.id, new.row.id);
        assert!(sent.is(&new.row));
        assert!(!format!("{:?}", new.row).contains(sent.secret));
        assert!(!sent.is(&key().row));
    }

    #[test]
    fn a_typing_error_is_seen_without_a_look_up() {
        let good = key().text;
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            let bad = String::from_utf8(bytes).unwrap();
            assert!(SentKey::parse(&bad).is_none(), "{bad}");
        }
        for bad in ["", "hp", "hp_", "hp___", &good[..good.len() - 1], &format!("{good}0"), "hp_ü_ü_00000000"]
        {
            assert!(SentKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_checksum_alone_opens_nothing() {
        let new = key();
        let other = text(new.row.id, &"0".repeat(SECRET_LEN));
        assert!(!SentKey::parse(&other).unwrap().is(&new.row));
    }

    #[test]
    fn roles_are_read_back() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(*role));
        }
        assert_eq!(Role::parse("root"), None);
    }
}
