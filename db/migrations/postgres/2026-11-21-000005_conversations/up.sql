-- The number of a conversation's last message.
ALTER TABLE conversations ADD COLUMN last_message bigint NOT NULL DEFAULT 0;

-- Messages of conversations: those that a start brought, written with it, and the agent's,
-- written with the end.
CREATE TABLE messages (
  tenant       text   NOT NULL,
  project      text   NOT NULL,
  conversation text   NOT NULL,
  n            bigint NOT NULL,
  message_id   text,                        -- where the caller gave one
  execution    uuid,                        -- none for what a classic run left
  role         text   NOT NULL,
  message      text   NOT NULL,             -- in OpenAI's shape
  at           bigint NOT NULL,
  CHECK (n > 0)
);
CREATE UNIQUE INDEX messages_ids ON messages (tenant, project, conversation, message_id) WHERE message_id IS NOT NULL;
-- Last, on purpose: see execution_info.
ALTER TABLE messages ADD PRIMARY KEY (tenant, project, conversation, n);

-- Conversations that were made for one execution had no row.
INSERT INTO conversations (tenant, project, id, active, end_user, created_at)
SELECT i.tenant, i.project, i.conversation_id,
  CASE WHEN e.status IN ('completed','failed','cancelled') THEN NULL ELSE e.id END, i.end_user, i.created_at
FROM execution_info i JOIN executions e ON e.tenant = i.tenant AND e.project = i.project AND e.id = i.id
WHERE i.conversation_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM conversations c
  WHERE c.tenant = i.tenant AND c.project = i.project AND c.id = i.conversation_id);
