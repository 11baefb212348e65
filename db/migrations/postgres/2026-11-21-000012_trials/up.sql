-- Test runs. One of a workflow has the place at a time, until it is over or its time is.
CREATE TABLE test_runs (
  tenant     text    NOT NULL,
  project    text    NOT NULL,
  execution  uuid    NOT NULL,
  workflow   text    NOT NULL,
  created_at bigint  NOT NULL,
  freed_at   bigint,                         -- when another one could begin
  over       boolean NOT NULL DEFAULT false, -- nothing is to be done about it any more
  CHECK (NOT over OR freed_at IS NOT NULL)
);
-- One expression, so that no other statement is planned through it. Names have no slash.
CREATE UNIQUE INDEX test_runs_active ON test_runs ((tenant || '/' || project || '/' || workflow)) WHERE freed_at IS NULL;
CREATE INDEX test_runs_open ON test_runs (created_at) WHERE NOT over;
-- Last, on purpose: see execution_info.
ALTER TABLE test_runs ADD PRIMARY KEY (tenant, project, execution);

-- Files that were uploaded. Those that no start referred to go after a day.
CREATE TABLE files (
  tenant       text    NOT NULL,
  project      text    NOT NULL,
  id           uuid    NOT NULL,
  name         text,
  content_type text    NOT NULL,
  bytes        bigint  NOT NULL,
  sha256       text    NOT NULL,
  content      bytea   NOT NULL,
  referred     boolean NOT NULL DEFAULT false, -- an execution was started with it
  created_by   text    NOT NULL,
  created_at   bigint  NOT NULL
);
CREATE INDEX files_unused ON files (created_at) WHERE NOT referred;
-- Last, on purpose: see execution_info.
ALTER TABLE files ADD PRIMARY KEY (tenant, project, id);

-- The files that an execution was started with: a JSON array of ids.
ALTER TABLE execution_extras ADD COLUMN files text;
