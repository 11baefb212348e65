-- Standing grants: a decision that was made before it is asked for. A use raises `uses` by one
-- guarded update, so that there are never more than `max_uses`.
CREATE TABLE grants (
  tenant          text    NOT NULL,
  project         text    NOT NULL,
  id              uuid    NOT NULL,
  agent           text,                       -- for the calls of this agent,
  conversation_id text,                       -- or for those in this conversation
  tool            text    NOT NULL,
  condition       text,                       -- an expression over the call; NULL: any call
  reason          text,
  end_user        text,                       -- only for executions of this end user
  max_uses        integer NOT NULL,
  uses            integer NOT NULL DEFAULT 0,
  expires_at      bigint  NOT NULL,
  created_by      text    NOT NULL,           -- the key, and what it was when it made the grant
  maker_role      text    NOT NULL,
  maker_groups    text    NOT NULL,           -- JSON array of names
  maker_end_user  text,
  created_at      bigint  NOT NULL,
  last_used_at    bigint,
  revoked_at      bigint,
  revoked_by      text,
  CHECK ((agent IS NULL) <> (conversation_id IS NULL)),
  CHECK (max_uses > 0 AND uses BETWEEN 0 AND max_uses),
  CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
  CHECK ((uses = 0) = (last_used_at IS NULL))
);
-- One expression, so that no other statement is planned through it.
CREATE INDEX grants_for ON grants ((tenant || '/' || project || '/' || tool), expires_at) WHERE revoked_at IS NULL;
-- Last, on purpose: see execution_info.
ALTER TABLE grants ADD PRIMARY KEY (tenant, project, id);

-- Who made the grant that decided.
ALTER TABLE approvals ADD COLUMN granted_by text;
