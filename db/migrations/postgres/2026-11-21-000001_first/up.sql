-- Times are microseconds since 1970 in UTC, the same in Postgres and SQLite.
-- No foreign keys and no jsonb on the hot tables; tenant and project stand first in every key.

-- The database's time. A test may shift it with the setting holdpoint.clock_offset (microseconds).
CREATE FUNCTION hp_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
       + coalesce(nullif(current_setting('holdpoint.clock_offset', true), '')::bigint, 0)
$$;

-- Status: narrow, and the only row that is locked. fillfactor leaves room for HOT updates.
CREATE TABLE executions (
  tenant     text     NOT NULL,
  project    text     NOT NULL,
  id         uuid     NOT NULL,
  kind       text     NOT NULL CHECK (kind IN ('agent','workflow')),
  status     text     NOT NULL CHECK (status IN ('queued','running','suspended','completed','failed','cancelled')),
  reason     text,
  epoch      bigint   NOT NULL DEFAULT 0,   -- raised by every claim
  owner      uuid,                          -- the worker session that holds the lease
  wake       bigint   NOT NULL DEFAULT 0,   -- raised by every act from outside
  last_seq   bigint   NOT NULL DEFAULT 0,   -- of the journal
  last_event bigint   NOT NULL DEFAULT 0,   -- of the stream
  ready_at   bigint,                        -- to be claimed from then on
  lost       integer  NOT NULL DEFAULT 0,   -- leases lost since the last commit
  started_at bigint,
  updated_at bigint   NOT NULL,
  PRIMARY KEY (tenant, project, id),
  CHECK (owner IS NULL OR ready_at IS NULL),
  CHECK (owner IS NULL OR status = 'running'),
  CHECK (status NOT IN ('completed','failed','cancelled') OR (owner IS NULL AND ready_at IS NULL)),
  CHECK (status <> 'suspended' OR owner IS NULL),
  CHECK (status <> 'failed' OR reason IS NOT NULL),
  CHECK (last_event <= last_seq)
) WITH (fillfactor = 70);
CREATE INDEX executions_ready ON executions (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX executions_owned ON executions (owner) WHERE owner IS NOT NULL;
-- An index may name no column that a commit under a lease changes: the update would not be HOT.
CREATE INDEX executions_suspended ON executions (kind) WHERE status = 'suspended';
CREATE INDEX executions_suspects ON executions (ready_at) WHERE lost >= 2;

-- What is written at the start and at the end, and what lists need.
CREATE TABLE execution_info (
  tenant          text    NOT NULL,
  project         text    NOT NULL,
  id              uuid    NOT NULL,
  kind            text    NOT NULL CHECK (kind IN ('agent','workflow')),
  name            text    NOT NULL,
  version         integer NOT NULL,
  run_type        text    NOT NULL CHECK (run_type IN ('production','test')),
  conversation_id text,
  end_user        text,
  retry_of        uuid,
  attempt         integer NOT NULL DEFAULT 1,
  idempotency_key text,
  body_digest     text,
  input           text,
  messages        text,
  metadata        text    NOT NULL DEFAULT '{}',
  created_by      text    NOT NULL,
  created_at      bigint  NOT NULL,
  finished_at     bigint,
  output          text,
  error_type      text,
  error_message   text,
  input_tokens    bigint  NOT NULL DEFAULT 0,
  output_tokens   bigint  NOT NULL DEFAULT 0,
  cost_micros     bigint  NOT NULL DEFAULT 0,
  CHECK (error_type IS NULL OR (error_message IS NOT NULL AND error_message <> ''))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX execution_info_key ON execution_info (tenant, project, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- Newest first in one project. One expression, so that no other statement is planned through it.
CREATE INDEX execution_info_newest ON execution_info ((tenant || '/' || project), created_at DESC, id DESC);
CREATE INDEX execution_info_conversation ON execution_info (tenant, project, conversation_id, created_at DESC) WHERE conversation_id IS NOT NULL;
-- Last, on purpose: between indexes that seem equally good the planner takes the youngest, and on an
-- empty table they all do. A lookup by id must never walk the whole project.
ALTER TABLE execution_info ADD PRIMARY KEY (tenant, project, id);

CREATE TABLE execution_labels (
  tenant  text NOT NULL,
  project text NOT NULL,
  key     text NOT NULL,
  value   text NOT NULL,
  id      uuid NOT NULL,
  created_at bigint NOT NULL
);
-- Newest first under one label. One expression, so that no other statement is planned through it.
CREATE INDEX execution_labels_newest ON execution_labels
  ((tenant || '/' || project || '/' || key || '/' || value), created_at DESC, id DESC);
ALTER TABLE execution_labels ADD PRIMARY KEY (tenant, project, id, key);

-- The journal: intents, results and what a stream shows, append-only.
CREATE TABLE journal (
  tenant    text    NOT NULL,
  project   text    NOT NULL,
  execution uuid    NOT NULL,
  seq       bigint  NOT NULL,
  event     bigint,
  kind      text    NOT NULL,
  step      integer NOT NULL,
  at        bigint  NOT NULL,
  payload   text    NOT NULL,
  PRIMARY KEY (tenant, project, execution, seq),
  CHECK (event IS NULL OR event BETWEEN 1 AND seq)
);

-- Acts from outside on an execution that a worker holds, until that worker journals them.
CREATE TABLE inbox (
  tenant    text   NOT NULL,
  project   text   NOT NULL,
  execution uuid   NOT NULL,
  n         bigint NOT NULL,                -- the wake that it raised
  act       text   NOT NULL,
  PRIMARY KEY (tenant, project, execution, n)
);

CREATE TABLE approvals (
  tenant           text    NOT NULL,
  project          text    NOT NULL,
  execution        uuid    NOT NULL,
  call_id          text    NOT NULL,
  id               uuid    NOT NULL,
  step             integer NOT NULL,
  agent            text    NOT NULL,
  version          integer NOT NULL,
  tool             text    NOT NULL,
  arguments        text    NOT NULL,
  digest           text    NOT NULL,
  requested_at     bigint  NOT NULL,
  expires_at       bigint  NOT NULL,
  expiry_named     boolean NOT NULL,
  status           text    NOT NULL CHECK (status IN ('pending','approved','denied','expired','cancelled','digest_mismatch')),
  reason           text,
  edited_arguments text,
  edited_digest    text,
  decided_by       text,
  decided_at       bigint,
  used_at          bigint,
  conversation_id  text,
  end_user         text,
  CHECK ((status IN ('approved','denied')) = (decided_at IS NOT NULL)),
  CHECK ((decided_at IS NULL) = (decided_by IS NULL)),
  CHECK (used_at IS NULL OR status = 'approved'),
  CHECK (edited_arguments IS NULL OR status = 'approved'),
  CHECK ((edited_arguments IS NULL) = (edited_digest IS NULL))
);
CREATE INDEX approvals_inbox ON approvals (tenant, project, requested_at, id) WHERE status = 'pending';
CREATE INDEX approvals_expiring ON approvals (expires_at) WHERE status = 'pending';
ALTER TABLE approvals ADD PRIMARY KEY (tenant, project, execution, call_id);

-- One active execution for each conversation that a caller named.
CREATE TABLE conversations (
  tenant     text   NOT NULL,
  project    text   NOT NULL,
  id         text   NOT NULL,
  active     uuid,
  end_user   text,
  created_at bigint NOT NULL,
  PRIMARY KEY (tenant, project, id)
);

-- A version never changes; the head says which is the latest and whether the name is in use.
CREATE TABLE definition_heads (
  tenant     text    NOT NULL,
  project    text    NOT NULL,
  kind       text    NOT NULL CHECK (kind IN ('agent','workflow')),
  name       text    NOT NULL,
  version    integer NOT NULL,
  deleted_at bigint,
  updated_at bigint  NOT NULL,
  PRIMARY KEY (tenant, project, kind, name)
);
CREATE TABLE definitions (
  tenant     text    NOT NULL,
  project    text    NOT NULL,
  kind       text    NOT NULL,
  name       text    NOT NULL,
  version    integer NOT NULL CHECK (version > 0),
  document   text    NOT NULL,
  digest     text    NOT NULL,
  created_by text    NOT NULL,
  created_at bigint  NOT NULL,
  PRIMARY KEY (tenant, project, kind, name, version)
);

-- Lease holders. An expired session never lives again.
CREATE TABLE sessions (
  id         uuid   PRIMARY KEY,
  name       text   NOT NULL,
  started_at bigint NOT NULL,
  expires_at bigint NOT NULL
);

CREATE TABLE api_keys (
  id          uuid   PRIMARY KEY,
  tenant      text   NOT NULL,
  project     text   NOT NULL,
  role        text   NOT NULL CHECK (role IN ('admin','submit','approve','read','agent')),
  name        text   NOT NULL,
  end_user    text,
  secret_hash text   NOT NULL,
  created_at  bigint NOT NULL,
  expires_at  bigint,
  revoked_at  bigint
);
CREATE INDEX api_keys_scope ON api_keys (tenant, project, created_at);

-- When the next pass of each sweep is due, and the passes that were.
CREATE TABLE ticks (
  kind       text   PRIMARY KEY,
  due_at     bigint NOT NULL,
  emitted_at bigint
);
CREATE TABLE sweeps (
  id          uuid    PRIMARY KEY,
  kind        text    NOT NULL,
  source      text    NOT NULL CHECK (source IN ('scheduler','api','cron')),
  tenant      text,
  project     text,
  dry_run     boolean NOT NULL DEFAULT false,
  started_at  bigint  NOT NULL,
  finished_at bigint,
  scanned     bigint  NOT NULL DEFAULT 0,
  cleaned_up  bigint  NOT NULL DEFAULT 0,
  failed      bigint  NOT NULL DEFAULT 0,
  skipped     bigint  NOT NULL DEFAULT 0
);
CREATE INDEX sweeps_started ON sweeps (started_at DESC);

-- Messages that could not be carried out.
CREATE TABLE parked_messages (
  id          uuid   PRIMARY KEY,
  tenant      text,
  project     text,
  queue       text   NOT NULL,
  message_id  text,
  kind        text,
  reason      text   NOT NULL,
  headers     text   NOT NULL DEFAULT '{}',
  body        bytea,
  body_bytes  bigint NOT NULL,
  body_digest text   NOT NULL,
  parked_at   bigint NOT NULL
);
CREATE INDEX parked_messages_parked ON parked_messages (parked_at DESC);
