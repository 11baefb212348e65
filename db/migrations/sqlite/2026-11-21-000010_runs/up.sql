-- What a version of a workflow says about its runs, as JSON; NULL where it says nothing.
ALTER TABLE definitions ADD COLUMN terms text;

-- How each registered workflow stands. What the end of a run writes never touches what a person
-- wrote: the state is changed only from `active`.
CREATE TABLE workflows (
  tenant           text    NOT NULL,
  project          text    NOT NULL,
  name             text    NOT NULL,
  state            text    NOT NULL DEFAULT 'active' CHECK (state IN ('active','paused','maintenance','archived')),
  changed_at       bigint  NOT NULL,
  changed_by       text,                     -- the key; NULL where the end of a run did it
  logic_failures   integer NOT NULL DEFAULT 0, -- since the last run that completed
  escalated        boolean NOT NULL DEFAULT false,
  schedule_stopped boolean NOT NULL DEFAULT false,
  attention        boolean NOT NULL DEFAULT false, -- the latest run failed and a person has to look
  latest           blob,                     -- the production run that ended last
  acknowledged_at  bigint,
  acknowledged_by  text,
  PRIMARY KEY (tenant, project, name),
  CHECK (NOT attention OR latest IS NOT NULL),
  CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
);
-- One expression, so that no other statement is planned through it.
CREATE INDEX workflows_attention ON workflows ((tenant || '/' || project)) WHERE attention;

-- Production runs of registered workflows that are not over.
CREATE TABLE workflow_runs (
  tenant   text    NOT NULL,
  project  text    NOT NULL,
  run      blob    NOT NULL,
  workflow text    NOT NULL,
  alone    boolean NOT NULL DEFAULT false, -- at most one such run goes on, and one more waits
  waits    boolean NOT NULL DEFAULT false,  -- for the end of the one before it
  PRIMARY KEY (tenant, project, run)
);
CREATE INDEX workflow_runs_active ON workflow_runs ((tenant || '/' || project || '/' || workflow));

-- Runs that repeat another: the row is the truth, and its key lets each attempt be made once.
CREATE TABLE run_retries (
  tenant     text    NOT NULL,
  project    text    NOT NULL,
  workflow   text    NOT NULL,               -- for an agent's run, the agent
  retry_of   blob    NOT NULL,               -- the first run
  attempt    integer NOT NULL CHECK (attempt > 1),
  run        blob    NOT NULL,
  due_at     bigint  NOT NULL,
  asked_by   text,                           -- the key; NULL where it follows by itself
  created_at bigint  NOT NULL,
  PRIMARY KEY (tenant, project, retry_of, attempt)
);
CREATE INDEX run_retries_workflow ON run_retries (workflow, retry_of);

-- Secrets whose balance was used up: a tenant's runs that use them begin later.
CREATE TABLE secret_holds (
  tenant     text   NOT NULL,
  secret     text   NOT NULL,
  held_until bigint NOT NULL,
  PRIMARY KEY (tenant, secret)
);
