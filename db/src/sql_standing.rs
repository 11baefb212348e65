//! The verbs of [`StandingStore`] on both databases.

use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::scope::Scope;

use crate::sql_store::SqlStore;
use crate::standing_store::StandingStore;
use crate::standing_types::*;
use crate::store::StoreResult;
use crate::{execution_standing, session};

impl StandingStore for SqlStore {
    fn execution_standing(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<Standing>> {
        self.read.with(|conn| execution_standing::execution_standing(conn, scope, id))
    }

    fn session_tell(&self, id: SessionId, about: &AboutWorker) -> StoreResult<()> {
        self.hot.write(|conn| session::session_tell(conn, id, about))
    }
}
