//! Cancel, pause, resume, resolve: at once where nobody holds the execution, else into the
//! inbox of whoever does.

use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::OutcomeResolved;
use holdpoint_engine::outside::check_resolve;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::outside::{self, Opened};
use crate::store::StoreResult;
use crate::types::{ActError, ActRequest, Acted};

/// One transaction's work.
pub(crate) fn execution_act_in_txn(
    conn: &mut Conn,
    key: &ExecutionKey,
    request: &ActRequest,
    by: &str,
    end_user: Option<&str>,
) -> Result<Acted, ActError> {
    let locked = outside::lock(conn, key)?.ok_or(ActError::NotFound)?;
    if end_user.is_some() && end_user != locked.end_user.as_deref() {
        return Err(ActError::NotFound);
    }
    if locked.status.is_terminal() {
        return Err(ActError::Terminal(locked.status));
    }
    let act = act_of(request, by);
    match (locked.owner, &act) {
        (Some(holder), Act::Resolve(resolved)) => {
            // What others resolved before counts, although it is not journaled yet.
            let opened = Opened::load(conn, locked)?;
            check_resolve(&opened.run, resolved, opened.locked.now)?;
            Ok(outside::tell_holder(conn, &opened.locked, holder, &act)?)
        }
        (Some(holder), _) => Ok(outside::tell_holder(conn, &locked, holder, &act)?),
        (None, _) => {
            let mut opened = Opened::load(conn, locked)?;
            if let Act::Resolve(resolved) = &act {
                check_resolve(&opened.run, resolved, opened.locked.now)?;
            }
            opened.act(&act);
            Ok(opened.write(conn)?)
        }
    }
}

/// One transaction's work; `None` where the run is over, or gone.
pub(crate) fn run_end_paused_in_txn(
    conn: &mut Conn,
    run: &ExecutionKey,
    by: &str,
) -> StoreResult<Option<Acted>> {
    let Some(locked) = outside::lock(conn, run)?.filter(|locked| !locked.status.is_terminal()) else {
        return Ok(None);
    };
    let act = Act::EndPaused { by: by.to_owned() };
    let Some(holder) = locked.owner else {
        let mut opened = Opened::load(conn, locked)?;
        opened.act(&act);
        return opened.write(conn).map(Some);
    };
    outside::tell_holder(conn, &locked, holder, &act).map(Some)
}

fn act_of(request: &ActRequest, by: &str) -> Act {
    let by = by.to_owned();
    match request {
        ActRequest::Cancel => Act::Cancel { by },
        ActRequest::Pause => Act::Pause { by },
        ActRequest::Resume => Act::Resume { by },
        ActRequest::Resolve { step, outcome, result } => {
            let raw = |text: &String| {
                serde_json::value::RawValue::from_string(text.clone())
                    .unwrap_or_else(|_| holdpoint_engine::json(text))
            };
            let result = result.as_ref().map(raw);
            Act::Resolve(OutcomeResolved { step: *step, outcome: *outcome, result, by })
        }
    }
}
