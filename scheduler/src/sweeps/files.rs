//! `files`: uploaded files that no execution was started with go after a day.

use holdpoint_db::{StoreResult, SweepReport};

use super::Pass;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let (kept, limit) = (pass.sweeper.settings.files_kept(), pass.limit);
    let unused = pass.sweeper.db.hot(move |store| store.files_unused(kept, limit)).await??;
    let mut report = SweepReport { scanned: unused.len() as i64, ..SweepReport::default() };
    if pass.dry_run {
        return Ok(report);
    }
    for key in unused {
        let file = key.clone();
        match pass.sweeper.db.hot(move |store| store.file_sweep(&file)).await? {
            Ok(true) => report.cleaned_up += 1,
            Ok(false) => report.skipped += 1,
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                report.failed += 1;
                tracing::error!(tenant = %key.scope.tenant, project = %key.scope.project,
                    file = %key.id, %error, "a file could not be removed");
            }
        }
    }
    Ok(report)
}
