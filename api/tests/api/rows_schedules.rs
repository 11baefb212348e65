//! Schedules, as far as routes ask the store for them here: there are none.

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;

use crate::rows::{Rows, not_here};

impl ScheduleStore for Rows {
    fn schedule_put(&self, _: &Scope, _: &PutSchedule) -> StoreResult<SchedulePut> {
        not_here()
    }

    fn schedule_get(&self, _: &Scope, _: &str) -> StoreResult<Option<ScheduleRow>> {
        self.here().map(|_| None)
    }

    fn schedule_list(&self, _: &Scope, _: Option<&str>, _: usize) -> StoreResult<Vec<ScheduleRow>> {
        self.here().map(|_| Vec::new())
    }

    fn schedule_change(
        &self,
        _: &Scope,
        _: &str,
        _: ScheduleChange,
        _: &str,
    ) -> StoreResult<Option<ScheduleRow>> {
        self.here().map(|_| None)
    }

    fn schedule_delete(&self, _: &Scope, _: &str, _: &str) -> StoreResult<ScheduleRemoved> {
        self.here().map(|_| ScheduleRemoved::Missing)
    }

    fn schedules_due(&self, _: usize) -> StoreResult<Vec<ScheduleKey>> {
        self.here().map(|_| Vec::new())
    }

    fn schedule_tick(&self, _: &ScheduleKey) -> StoreResult<Ticked> {
        self.here().map(|_| Ticked::Nothing)
    }
}
