//! Backpressure: a tenant whose executions wait in too great a number is refused more for a while.
//!
//! What waits is counted in the database at most once a second for each tenant that starts
//! something, and beside its starts, not before them; between two counts this process adds what
//! it admitted itself. So the bound is kept but for what all API processes admit in a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_db::Waiting;

use crate::app::App;
use crate::problem::{Answer, Code, Problem};

/// A count is good for so long.
const AGE: Duration = Duration::from_secs(1);
/// A tenant that seems to be over its bound is counted again so soon.
const AGAIN: Duration = Duration::from_millis(100);
/// Counting takes at most this share of the time.
const SHARE: u32 = 20;
/// The same where starts were admitted since.
const GUESSED: u32 = 4;
/// More tenants than this are not remembered: the oldest counts go.
const TENANTS: usize = 10_000;

/// What is known of a tenant.
#[derive(Debug, Clone, Copy)]
struct Known {
    waiting: i64,
    bound: Option<i64>,
    admitted: i64,
    counted_at: Instant,
    /// How long counting took.
    took: Duration,
    counting: bool,
}

impl Known {
    fn is_older_than(&self, age: Duration) -> bool {
        self.counted_at.elapsed() >= age.max(self.took * SHARE)
    }
}

/// What is known of all tenants that start something.
#[derive(Default)]
pub struct Backlogs(Mutex<HashMap<Arc<str>, Known>>);

/// What to do with a start.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Admit,
    /// And count, beside it.
    AdmitAndCount,
    CountFirst,
    Refuse {
        waiting: i64,
        bound: i64,
    },
}

impl Backlogs {
    fn judge(&self, tenant: &Arc<str>, more: i64, default: i64) -> Verdict {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = tenants.get_mut(tenant) else { return Verdict::CountFirst };
        let bound = known.bound.unwrap_or(default);
        let waiting = known.waiting + known.admitted;
        if waiting + more > bound {
            // An estimate refuses nobody, as long as counting anew costs little.
            let guessed = known.admitted > 0 && known.counted_at.elapsed() >= known.took * GUESSED;
            let again = guessed || known.is_older_than(AGAIN);
            return if again { Verdict::CountFirst } else { Verdict::Refuse { waiting, bound } };
        }
        known.admitted += more;
        if known.counting || !known.is_older_than(AGE) {
            return Verdict::Admit;
        }
        known.counting = true;
        Verdict::AdmitAndCount
    }

    /// What was admitted while it was being counted may not be in the count.
    fn counted(&self, tenant: &Arc<str>, waiting: Waiting, before: i64, took: Duration) {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= TENANTS && !tenants.contains_key(tenant) {
            tenants.retain(|_, known| !known.is_older_than(AGE));
        }
        let admitted = tenants.get(tenant).map_or(0, |known| (known.admitted - before).max(0));
        let Waiting { count, bound } = waiting;
        let counted_at = Instant::now();
        let known = Known { waiting: count, bound, admitted, counted_at, took, counting: false };
        tenants.insert(Arc::clone(tenant), known);
    }

    fn admitted(&self, tenant: &Arc<str>) -> i64 {
        let tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).map_or(0, |known| known.admitted)
    }

    fn not_counted(&self, tenant: &Arc<str>) {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tenants.get_mut(tenant) {
            known.counting = false;
        }
    }
}

/// Whether so many more starts of a tenant are taken in: else 429. Where the database cannot be
/// asked, that is for the start itself to find out.
pub async fn admit(app: &App, tenant: &Arc<str>, more: usize) -> Answer<()> {
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    let default = i64::from(app.limits.tenant_backlog);
    let mut verdict = app.backlogs.judge(tenant, more, default);
    if verdict == Verdict::CountFirst {
        count(app, tenant).await;
        verdict = app.backlogs.judge(tenant, more, default);
    }
    match verdict {
        Verdict::Refuse { waiting, bound } => Err(refused(app, waiting, bound)),
        Verdict::AdmitAndCount => {
            count_beside(app, tenant);
            Ok(())
        }
        Verdict::Admit | Verdict::CountFirst => Ok(()),
    }
}

async fn count(app: &App, tenant: &Arc<str>) {
    let (default, before, begun) =
        (i64::from(app.limits.tenant_backlog), app.backlogs.admitted(tenant), Instant::now());
    let asked = Arc::clone(tenant);
    match app.read(move |store| store.backlog(&asked, default)).await {
        Ok(waiting) => app.backlogs.counted(tenant, waiting, before, begun.elapsed()),
        Err(_) => app.backlogs.not_counted(tenant),
    }
}

fn count_beside(app: &App, tenant: &Arc<str>) {
    let (db, backlogs) = (app.db.clone(), Arc::clone(&app.backlogs));
    let (tenant, default) = (Arc::clone(tenant), i64::from(app.limits.tenant_backlog));
    let (before, begun) = (backlogs.admitted(&tenant), Instant::now());
    tokio::spawn(async move {
        let asked = Arc::clone(&tenant);
        match db.read(move |store| store.backlog(&asked, default)).await.and_then(|waiting| waiting) {
            Ok(waiting) => backlogs.counted(&tenant, waiting, before, begun.elapsed()),
            Err(error) => {
                tracing::debug!(%error, "a backlog was not counted");
                backlogs.not_counted(&tenant);
            }
        }
    });
}

fn refused(app: &App, waiting: i64, bound: i64) -> Problem {
    app.metrics.backlog_refused.inc();
    let detail = format!(
        "{waiting} executions of the tenant wait to be taken, and {bound} may: start it again a little later"
    );
    Problem::new(Code::BacklogFull, detail).with("limit", "tenant_backlog").with("value", bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> Arc<str> {
        "acme".into()
    }

    fn counted(backlogs: &Backlogs, count: i64, bound: Option<i64>) {
        backlogs.counted(&tenant(), Waiting { count, bound }, 0, Duration::ZERO);
    }

    #[test]
    fn what_was_admitted_counts_until_it_is_counted() {
        // Counting takes long here: nothing is counted anew within the test.
        let counted = |backlogs: &Backlogs, count, bound| {
            backlogs.counted(&tenant(), Waiting { count, bound }, 0, Duration::from_secs(60));
        };
        let backlogs = Backlogs::default();
        assert_eq!(backlogs.judge(&tenant(), 1, 100), Verdict::CountFirst, "nothing is known");
        counted(&backlogs, 90, None);
        assert_eq!(backlogs.judge(&tenant(), 10, 100), Verdict::Admit);
        assert_eq!(backlogs.judge(&tenant(), 1, 100), Verdict::Refuse { waiting: 100, bound: 100 });
        let before = backlogs.admitted(&tenant());
        assert_eq!(before, 10);
        backlogs.counted(&tenant(), Waiting { count: 40, bound: None }, before, Duration::from_secs(60));
        assert_eq!(backlogs.judge(&tenant(), 60, 100), Verdict::Admit);
        assert_eq!(backlogs.judge(&tenant(), 1, 100), Verdict::Refuse { waiting: 100, bound: 100 });
    }

    #[test]
    fn an_estimate_is_counted_before_anybody_is_refused() {
        let backlogs = Backlogs::default();
        counted(&backlogs, 90, None);
        assert_eq!(backlogs.judge(&tenant(), 10, 100), Verdict::Admit);
        assert_eq!(backlogs.judge(&tenant(), 1, 100), Verdict::CountFirst);
    }

    #[test]
    fn what_was_admitted_while_counting_is_not_forgotten() {
        let backlogs = Backlogs::default();
        counted(&backlogs, 0, None);
        assert_eq!(backlogs.judge(&tenant(), 5, 100), Verdict::Admit);
        let before = backlogs.admitted(&tenant());
        assert_eq!(backlogs.judge(&tenant(), 7, 100), Verdict::Admit);
        backlogs.counted(&tenant(), Waiting { count: 5, bound: None }, before, Duration::ZERO);
        assert_eq!(backlogs.admitted(&tenant()), 7);
    }

    #[test]
    fn a_tenants_own_bound_goes_before_the_default() {
        let backlogs = Backlogs::default();
        counted(&backlogs, 5, Some(5));
        assert_eq!(backlogs.judge(&tenant(), 1, 100), Verdict::Refuse { waiting: 5, bound: 5 });
        counted(&backlogs, 500, Some(1_000));
        assert_eq!(backlogs.judge(&tenant(), 1, 100), Verdict::Admit);
    }

    #[test]
    fn other_tenants_are_not_concerned() {
        let backlogs = Backlogs::default();
        counted(&backlogs, 100, None);
        assert_eq!(backlogs.judge(&"other".into(), 1, 100), Verdict::CountFirst);
        backlogs.counted(&"other".into(), Waiting { count: 0, bound: None }, 0, Duration::ZERO);
        assert_eq!(backlogs.judge(&"other".into(), 1, 100), Verdict::Admit);
    }
}
