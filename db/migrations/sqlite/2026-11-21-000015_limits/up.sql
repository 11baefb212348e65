-- The lane of its project that an execution waits in: a letter for its priority (`a` for 10, `k`
-- for 0, `u` for -10), and what a limit puts behind it.
ALTER TABLE executions ADD COLUMN lane text NOT NULL DEFAULT 'k';
-- One expression, so that no other statement is planned through it. Names have no slash.
CREATE INDEX executions_lanes ON executions ((tenant || '/' || project || '/' || lane), ready_at) WHERE ready_at IS NOT NULL;

-- How much at a time and how often. A tenant's own has no project, and the name `default`.
CREATE TABLE limits (
  tenant      text   NOT NULL,
  project     text   NOT NULL,
  kind        text   NOT NULL CHECK (kind IN ('tenant','agent','workflow','tool')),
  name        text   NOT NULL,
  concurrency bigint CHECK (concurrency > 0),
  rate_count  bigint CHECK (rate_count > 0),
  rate_micros bigint CHECK (rate_micros > 0),
  backlog     bigint CHECK (backlog > 0),
  updated_by  text   NOT NULL,
  updated_at  bigint NOT NULL,
  PRIMARY KEY (tenant, project, kind, name),
  CHECK ((rate_count IS NULL) = (rate_micros IS NULL)),
  CHECK ((kind = 'tenant') = (project = '')),
  CHECK (backlog IS NULL OR kind = 'tenant')
);

-- Whoever takes something under a limit locks its row here: what was begun lately, by steps of time.
CREATE TABLE limit_states (
  tenant  text NOT NULL,
  project text NOT NULL,
  kind    text NOT NULL,
  name    text NOT NULL,
  used    text NOT NULL DEFAULT '[]',
  PRIMARY KEY (tenant, project, kind, name)
);

-- Calls of limited tools that wait or are under way, while their execution is held.
CREATE TABLE tool_calls (
  tenant    text    NOT NULL,
  project   text    NOT NULL,
  execution blob    NOT NULL,
  step      integer NOT NULL,
  tool      text    NOT NULL,
  session   blob    NOT NULL,
  asked_at  bigint  NOT NULL,
  begun_at  bigint,
  PRIMARY KEY (tenant, project, execution, step)
);
CREATE INDEX tool_calls_tool ON tool_calls ((tenant || '/' || project || '/' || tool), asked_at);
