//! Conversations: threads of messages that executions of agents belong to.

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;

use crate::conn::Conn;
use crate::row::Row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::ConversationRow;

const SELECT: &str = "
    SELECT c.id, c.end_user, c.active, c.created_at,
      (SELECT i.id FROM execution_info i WHERE i.tenant = c.tenant AND i.project = c.project
         AND i.conversation_id = c.id ORDER BY i.created_at DESC LIMIT 1)
    FROM conversations c WHERE c.tenant = ? AND c.project = ? AND c.id = ?";

/// One conversation.
pub(crate) fn conversation_get(
    conn: &mut Conn,
    scope: &Scope,
    id: &str,
) -> StoreResult<Option<ConversationRow>> {
    conn.row(SELECT, &binds![&*scope.tenant, &*scope.project, id])?.map(read_conversation).transpose()
}

fn read_conversation(mut row: Row) -> StoreResult<ConversationRow> {
    Ok(ConversationRow {
        id: row.text()?,
        end_user: row.opt_text()?,
        active: row.opt_id()?.map(ExecutionId),
        created_at: row.time()?,
        latest: row.opt_id()?.map(ExecutionId),
    })
}
