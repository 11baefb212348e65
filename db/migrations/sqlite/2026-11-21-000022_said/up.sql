-- When a classic run spoke last in a conversation, where nothing else keeps that: what was said goes in
-- its time. NULL while an execution of the conversation is kept, whose removal says it again.
ALTER TABLE conversations ADD COLUMN said_at bigint;
UPDATE conversations AS c SET said_at = m.at FROM messages m
WHERE m.tenant = c.tenant AND m.project = c.project AND m.conversation = c.id AND m.execution IS NULL
  AND NOT EXISTS (SELECT 1 FROM messages l WHERE l.tenant = m.tenant AND l.project = m.project
    AND l.conversation = m.conversation AND l.n > m.n);
CREATE INDEX conversations_said ON conversations (tenant || '/' || project, said_at) WHERE said_at IS NOT NULL;
