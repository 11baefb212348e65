//! The verbs for schedules, on either database; see `sql_store.rs`.

use holdpoint_engine::scope::Scope;

use crate::schedule_store::ScheduleStore;
use crate::schedule_types::*;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;
use crate::{schedule_tick, schedules};

impl ScheduleStore for SqlStore {
    fn schedule_put(&self, scope: &Scope, put: &PutSchedule) -> StoreResult<SchedulePut> {
        self.hot.write(|conn| schedules::schedule_put_in_txn(conn, scope, put))
    }

    fn schedule_get(&self, scope: &Scope, name: &str) -> StoreResult<Option<ScheduleRow>> {
        self.read.with(|conn| schedules::schedule_get(conn, scope, name, ""))
    }

    fn schedule_list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<ScheduleRow>> {
        self.read.with(|conn| schedules::schedule_list(conn, scope, after, limit))
    }

    fn schedule_change(
        &self,
        scope: &Scope,
        name: &str,
        change: ScheduleChange,
        by: &str,
    ) -> StoreResult<Option<ScheduleRow>> {
        self.hot.write(|conn| schedules::schedule_change_in_txn(conn, scope, name, change, by))
    }

    fn schedule_delete(&self, scope: &Scope, name: &str, by: &str) -> StoreResult<ScheduleRemoved> {
        self.hot.write(|conn| schedules::schedule_delete_in_txn(conn, scope, name, by))
    }

    fn schedules_due(&self, limit: usize) -> StoreResult<Vec<ScheduleKey>> {
        self.hot.with(|conn| schedules::schedules_due(conn, limit))
    }

    fn schedule_tick(&self, key: &ScheduleKey) -> StoreResult<Ticked> {
        self.hot.write(|conn| schedule_tick::schedule_tick_in_txn(conn, key))
    }
}
