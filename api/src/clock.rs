//! The process's clock and randomness, for ids and for keys' expiry. What the contract
//! judges by time (approvals, leases) is judged by the database's.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::time::Timestamp;

/// Now, by this process.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Makes ids; not for secrets.
pub struct Ids(Mutex<Entropy>);

impl Ids {
    /// Seeded by the system.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(Mutex::new(Entropy::from_seed(seed()?))))
    }

    /// A new id: `ids.make(ExecutionId::new)`.
    pub fn make<T>(&self, new: impl FnOnce(Timestamp, &mut Entropy) -> T) -> T {
        new(now(), &mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// 64 bits from the system.
pub fn seed() -> Result<u64, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
