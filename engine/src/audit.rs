//! The audit's rows and what ties them together: each row carries the hash of the one before,
//! so that nobody can change, remove, insert or swap rows in the middle without changing every
//! row after them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::scope::Scope;
use crate::time::Timestamp;

/// The first field of every hash: which fields follow, and in which order.
pub const FORMAT: &str = "holdpoint.audit.1";

/// What was done, by whom, to what. Texts are as they are stored: a row that was tampered with
/// can still be read, and is told by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRow {
    /// Whose chain it is in; empty for the installation's.
    pub tenant: String,
    /// See `tenant`.
    pub project: String,
    /// Its number in the chain, 1…n without a gap.
    pub seq: i64,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// A key's id, `scheduler`, `worker`, `cron` or `operator`.
    pub actor: String,
    /// The end user that the actor spoke for.
    pub end_user: Option<String>,
    /// One of [`AuditAct`](crate::status::AuditAct).
    pub act: String,
    /// An id or a name.
    pub subject: String,
    /// A JSON object with sorted keys, as text.
    pub details: String,
    /// The hash of the row before it; empty for the first.
    pub prev_hash: String,
    /// SHA-256 in hex; see [`AuditRow::computed_hash`].
    pub hash: String,
}

impl AuditRow {
    /// SHA-256 over these fields, each preceded by its length as eight big-endian bytes: the
    /// format's name, tenant, project, the number in decimal, the time as RFC 3339 with six
    /// digits after the point, actor, end user (empty for none), act, subject, details, and the
    /// hash before.
    pub fn computed_hash(&self) -> String {
        let (seq, at) = (self.seq.to_string(), self.at.to_string());
        let end_user = self.end_user.as_deref().unwrap_or("");
        let mut hasher = Sha256::new();
        for field in [
            FORMAT,
            &self.tenant,
            &self.project,
            &seq,
            &at,
            &self.actor,
            end_user,
            &self.act,
            &self.subject,
            &self.details,
            &self.prev_hash,
        ] {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field.as_bytes());
        }
        hex(&hasher.finalize())
    }

    /// The chain that it is in.
    pub fn chain(&self) -> Scope {
        Scope::new(&self.tenant, &self.project)
    }
}

/// The chain of what belongs to no tenant: its tenant and project are empty.
pub fn installation() -> Scope {
    Scope::new("", "")
}

/// A chain as people read it.
pub fn chain_name(chain: &Scope) -> String {
    if chain.tenant.is_empty() { "the installation".to_owned() } else { chain.to_string() }
}

/// The end of a chain, as it is stored beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// Whose chain; empty names for the installation's.
    pub chain: Scope,
    /// How many rows there are.
    pub seq: i64,
    /// The last row's hash.
    pub hash: String,
}

/// The first row of a chain that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, row {seq}: {fault}", chain_name(.chain))]
pub struct Broken {
    /// Which chain.
    pub chain: Scope,
    /// Which row.
    pub seq: i64,
    /// What does not fit.
    pub fault: Fault,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("its hash is not that of its fields: it was altered")]
    Altered,
    #[error("it does not carry the hash of the row before it: that one was altered, removed or swapped")]
    Unlinked,
    #[error("row {wanted} should stand here: rows were removed, inserted or swapped")]
    OutOfOrder { wanted: i64 },
    #[error("rows of another chain stand among its rows")]
    Foreign,
    #[error("the chain ends here, but its head is row {head}: rows were cut off or appended by hand")]
    NotTheHead { head: i64 },
    #[error("the chain ends here, and its head has another hash: the end was replaced")]
    OtherHead,
    #[error("no row of the chain has the hash {hash}: what followed was cut off or replaced")]
    HeadMissing { hash: String },
}

/// Follows one chain from its first row on.
#[derive(Debug, Clone)]
pub struct Verifier {
    chain: Scope,
    seq: i64,
    hash: String,
    known: Option<String>,
    known_at: Option<i64>,
    /// The head that was further than the rows when they were read last.
    further: Option<i64>,
}

impl Verifier {
    /// From the beginning. `known` is a hash that somebody noted before: it must be in the chain.
    pub fn new(chain: Scope, known: Option<String>) -> Self {
        Self { chain, seq: 0, hash: String::new(), known, known_at: None, further: None }
    }

    /// Takes the rows after [`Verifier::seq`], and the chain's head as it stood after they were
    /// read. Whether that was all: a head that is further than the rows is looked at again, for
    /// rows may have been written meanwhile.
    pub fn page(&mut self, rows: &[AuditRow], head: Option<&AuditHead>) -> Result<bool, Broken> {
        rows.iter().try_for_each(|row| self.next(row))?;
        let head = head.map_or(0, |head| head.seq);
        let seen = self.further.replace(head);
        Ok(rows.is_empty() && (head <= self.seq || seen == Some(head)))
    }

    /// Takes the next row.
    pub fn next(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let wanted = self.seq + 1;
        if row.chain() != self.chain {
            return Err(self.broken(wanted, Fault::Foreign));
        }
        if row.seq != wanted {
            return Err(self.broken(row.seq, Fault::OutOfOrder { wanted }));
        }
        if row.computed_hash() != row.hash {
            return Err(self.broken(row.seq, Fault::Altered));
        }
        if row.prev_hash != self.hash {
            return Err(self.broken(row.seq, Fault::Unlinked));
        }
        (self.seq, self.hash) = (row.seq, row.hash.clone());
        if self.known.as_ref() == Some(&row.hash) {
            self.known_at = Some(row.seq);
        }
        Ok(())
    }

    /// After the last row: it must be the head, where one is given, and the hash that was noted
    /// must have come by. How many rows there were, and the last one's hash.
    pub fn end(self, head: Option<&AuditHead>) -> Result<AuditHead, Broken> {
        if let Some(head) = head {
            if head.seq != self.seq {
                return Err(self.broken(self.seq, Fault::NotTheHead { head: head.seq }));
            }
            if head.hash != self.hash {
                return Err(self.broken(self.seq, Fault::OtherHead));
            }
        }
        if let (Some(hash), None) = (&self.known, self.known_at) {
            return Err(self.broken(self.seq, Fault::HeadMissing { hash: hash.clone() }));
        }
        Ok(AuditHead { chain: self.chain, seq: self.seq, hash: self.hash })
    }

    /// The chain that is followed.
    pub fn chain(&self) -> &Scope {
        &self.chain
    }

    /// The row that was taken last.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    fn broken(&self, seq: i64, fault: Fault) -> Broken {
        Broken { chain: self.chain.clone(), seq, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(rows: i64) -> Vec<AuditRow> {
        let mut made: Vec<AuditRow> = Vec::new();
        for seq in 1..=rows {
            let mut row = AuditRow {
                tenant: "acme".to_owned(),
                project: "shop".to_owned(),
                seq,
                at: Timestamp::from_micros(1_800_000_000_000_000 + seq),
                actor: "key_1".to_owned(),
                end_user: None,
                act: "key.created".to_owned(),
                subject: format!("key_{seq}"),
                details: "{}".to_owned(),
                prev_hash: made.last().map(|row| row.hash.clone()).unwrap_or_default(),
                hash: String::new(),
            };
            row.hash = row.computed_hash();
            made.push(row);
        }
        made
    }

    fn verify(rows: &[AuditRow], head: Option<&AuditHead>, known: Option<&str>) -> Result<AuditHead, Broken> {
        let mut verifier = Verifier::new(Scope::new("acme", "shop"), known.map(str::to_owned));
        rows.iter().try_for_each(|row| verifier.next(row))?;
        verifier.end(head)
    }

    fn head(rows: &[AuditRow]) -> AuditHead {
        let last = rows.last().expect("fine");
        AuditHead { chain: last.chain(), seq: last.seq, hash: last.hash.clone() }
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        // In Python: hashlib.sha256(b"".join(len(f).to_bytes(8, "big") + f for f in fields))
        let row = &chain(1)[0];
        let by_hand: Vec<u8> = [
            "holdpoint.audit.1",
            "acme",
            "shop",
            "1",
            "2027-01-15T08:00:00.000001Z",
            "key_1",
            "",
            "key.created",
            "key_1",
            "{}",
            "",
        ]
        .iter()
        .flat_map(|field| [&(field.len() as u64).to_be_bytes()[..], field.as_bytes()].concat())
        .collect();
        assert_eq!(row.hash, crate::digest::sha256_hex(&by_hand));
    }

    #[test]
    fn a_whole_chain_is_whole() {
        let rows = chain(5);
        assert_eq!(verify(&rows, Some(&head(&rows)), Some(&rows[2].hash)).expect("fine"), head(&rows));
        assert_eq!(verify(&[], None, None).expect("fine").seq, 0);
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let changes: [fn(&mut AuditRow); 7] = [
            |row| row.at = Timestamp::from_micros(row.at.micros() + 1),
            |row| row.actor.push('x'),
            |row| row.end_user = Some("x".to_owned()),
            |row| row.act = "key.revoked".to_owned(),
            |row| row.subject.push('x'),
            |row| row.details = "{\"a\":1}".to_owned(),
            |row| row.prev_hash = "00".to_owned(),
        ];
        for change in changes {
            let mut rows = chain(4);
            change(&mut rows[1]);
            let broken = verify(&rows, None, None).expect_err("broken");
            assert_eq!((broken.seq, broken.fault), (2, Fault::Altered));
            // Whoever computes that row's hash anew is told by the next one.
            rows[1].hash = rows[1].computed_hash();
            let broken = verify(&rows, None, None).expect_err("broken");
            assert!(matches!((broken.seq, &broken.fault), (2 | 3, Fault::Unlinked)), "{broken}");
        }
    }

    #[test]
    fn removed_swapped_and_foreign_rows_are_found() {
        let rows = chain(5);
        let without = [&rows[..1], &rows[2..]].concat();
        let broken = verify(&without, None, None).expect_err("broken");
        assert_eq!((broken.seq, broken.fault), (3, Fault::OutOfOrder { wanted: 2 }));
        let mut swapped = rows.clone();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped, None, None).expect_err("broken").seq, 3);
        let mut foreign = rows.clone();
        foreign[3].project = "other".to_owned();
        assert_eq!(verify(&foreign, None, None).expect_err("broken").fault, Fault::Foreign);
    }

    #[test]
    fn a_cut_end_is_found_by_the_head_or_by_a_hash_that_was_noted() {
        let rows = chain(5);
        let (end, cut) = (head(&rows), &rows[..3]);
        assert_eq!(verify(cut, Some(&end), None).expect_err("broken").fault, Fault::NotTheHead { head: 5 });
        assert!(verify(cut, None, None).is_ok());
        let broken = verify(cut, None, Some(&end.hash)).expect_err("broken");
        assert!(matches!(broken.fault, Fault::HeadMissing { .. }));
        let other = AuditHead { hash: "00".to_owned(), ..end };
        assert_eq!(verify(&rows, Some(&other), None).expect_err("broken").fault, Fault::OtherHead);
    }
}
