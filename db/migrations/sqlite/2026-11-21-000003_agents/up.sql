-- The agents that a definition names, as JSON; NULL for most, which name none.
ALTER TABLE definitions ADD COLUMN refers text;

-- What names without a version meant when the execution started, as JSON.
ALTER TABLE execution_extras ADD COLUMN pins text;
-- How deep it was delegated: 1 for a child, 2 for a child's child.
ALTER TABLE execution_extras ADD COLUMN parent_depth integer;

-- Whom the conversation was with last, where that was not the agent it was begun with.
ALTER TABLE conversations ADD COLUMN agent text;
ALTER TABLE conversations ADD COLUMN active_agent text;

-- Delegated executions: how much of each its parent was told, and whether it knows the end.
CREATE TABLE children (
  tenant  text    NOT NULL,
  project text    NOT NULL,
  child   blob    NOT NULL,
  parent  blob    NOT NULL,
  step    integer NOT NULL,
  call_id text    NOT NULL,
  relayed bigint  NOT NULL DEFAULT 0,       -- the last of the child's lines that was looked at
  done    boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant, project, child)
);
-- By one column: under tenant and project the planner takes the primary key and walks a project.
CREATE INDEX children_parent ON children (parent);
-- For the sweep. One expression, so that no other statement is planned through it.
CREATE INDEX children_open ON children ((tenant || '/' || project), child) WHERE NOT done;
