//! Why an execution stands where it stands, in memory.

use holdpoint_db::{AboutWorker, Around, Standing, StandingStore, StoreResult};
use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::Status;

use crate::rows::{Rows, now};

impl StandingStore for Rows {
    fn execution_standing(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<Standing>> {
        let state = self.here()?;
        let found = state.executions.iter().find(|one| one.row.key.scope == *scope && one.row.key.id == id);
        Ok(found.map(|one| {
            let (row, lines) = (one.row.clone(), one.lines.clone());
            let ready_at = (row.status == Status::Queued).then_some(row.created_at);
            Standing { row, now: now(), ready_at, lost: 0, lease: None, lines, around: Around::default() }
        }))
    }

    fn session_tell(&self, _: SessionId, _: &AboutWorker) -> StoreResult<()> {
        Ok(())
    }
}
