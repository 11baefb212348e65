//! The verbs for schedules.

use holdpoint_engine::scope::Scope;

use crate::schedule_types::*;
use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): whole transactions. A tick is carried out in one, with
/// the start that it makes.
pub trait ScheduleStore: Send + Sync + 'static {
    /// Makes a schedule, or changes the one of that name. Its next tick stays where it is
    /// unless its timing is another one.
    fn schedule_put(&self, scope: &Scope, put: &PutSchedule) -> StoreResult<SchedulePut>;
    /// One schedule.
    fn schedule_get(&self, scope: &Scope, name: &str) -> StoreResult<Option<ScheduleRow>>;
    /// Those of a project after `after`, by name.
    fn schedule_list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<ScheduleRow>>;
    /// Pauses or resumes one; as it stands then, `None` where there is none.
    fn schedule_change(
        &self,
        scope: &Scope,
        name: &str,
        change: ScheduleChange,
        by: &str,
    ) -> StoreResult<Option<ScheduleRow>>;
    /// Removes one; its runs go on.
    fn schedule_delete(&self, scope: &Scope, name: &str, by: &str) -> StoreResult<ScheduleRemoved>;
    /// Schedules that are due, the longest due first, at most `limit`.
    fn schedules_due(&self, limit: usize) -> StoreResult<Vec<ScheduleKey>>;
    /// Carries out what is due of one schedule: one tick with the start that it makes, and
    /// what was missed before it. Whoever comes second does nothing.
    fn schedule_tick(&self, key: &ScheduleKey) -> StoreResult<Ticked>;
}
