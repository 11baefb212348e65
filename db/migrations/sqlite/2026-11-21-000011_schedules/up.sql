-- What starts by itself. Whoever carries a tick out locks the row, and moves it on in the same
-- transaction: so a tick is one, however many look at it.
CREATE TABLE schedules (
  tenant         text    NOT NULL,
  project        text    NOT NULL,
  name           text    NOT NULL,
  id             blob    NOT NULL,   -- of this making of the name; ticks' executions follow from it
  owner          integer,                      -- the workflow's version that brings it, where one does
  document       text    NOT NULL,             -- what is started, when, and how
  after_micros   bigint,                       -- where it ticks so long after a run's end
  anchor         bigint  NOT NULL,             -- where intervals begin
  paused_at      bigint,
  due_at         bigint,                       -- when a pass looks at it
  next_tick      bigint,                       -- none while it waits for a run's end
  waiting_tick   bigint,                       -- a tick that waits for the active run's end
  active         blob,   -- its run that is not over
  last_tick      bigint,
  last_execution blob,
  runs           bigint  NOT NULL DEFAULT 0,
  missed         bigint  NOT NULL DEFAULT 0,
  skipped        bigint  NOT NULL DEFAULT 0,
  skipped_at     bigint,                       -- the tick that was skipped last
  skipped_for    text    CHECK (skipped_for IN ('active','waiting','workflow','unknown_definition')),
  created_by     text    NOT NULL,
  created_at     bigint  NOT NULL,
  updated_at     bigint  NOT NULL,
  PRIMARY KEY (tenant, project, name),
  CHECK (paused_at IS NULL OR (due_at IS NULL AND next_tick IS NULL AND waiting_tick IS NULL)),
  CHECK (due_at IS NOT NULL OR paused_at IS NOT NULL OR next_tick IS NULL),
  CHECK ((last_tick IS NULL) = (last_execution IS NULL)),
  CHECK ((skipped_at IS NULL) = (skipped_for IS NULL))
);
CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;

-- Which executions schedules started, and for which ticks.
CREATE TABLE schedule_runs (
  tenant    text   NOT NULL,
  project   text   NOT NULL,
  execution blob   NOT NULL,
  schedule  text   NOT NULL,
  tick      bigint NOT NULL,
  PRIMARY KEY (tenant, project, execution)
);
