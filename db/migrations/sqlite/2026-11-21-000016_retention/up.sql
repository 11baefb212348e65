-- How long a project keeps finished executions, and how far the sweep has come there. A row says
-- nothing of the time where a project never said any: then the installation's holds.
CREATE TABLE retention (
  tenant          text    NOT NULL,
  project         text    NOT NULL,
  finished_after  bigint  CHECK (finished_after > 0), -- microseconds after the end
  forever         boolean NOT NULL DEFAULT false,     -- whatever the installation says
  require_export  boolean NOT NULL DEFAULT false,     -- only what was exported goes
  exported_before bigint,                             -- what had finished before then was exported
  cursor_at       bigint  NOT NULL DEFAULT 0,         -- where the next pass begins: created so,
  cursor_id       blob,                               -- and after this one
  updated_by      text,
  updated_at      bigint,
  PRIMARY KEY (tenant, project),
  CHECK (NOT forever OR finished_after IS NULL),
  CHECK ((updated_by IS NULL) = (updated_at IS NULL))
);
-- The project after which the next pass begins.
CREATE TABLE retention_walk (
  id    integer PRIMARY KEY CHECK (id = 1),
  after text    NOT NULL
);
INSERT INTO retention_walk (id, after) VALUES (1, '');

-- Which executions were started with which files: with the last of them a file goes.
CREATE TABLE file_uses (
  tenant    text NOT NULL,
  project   text NOT NULL,
  execution blob NOT NULL,
  file      blob NOT NULL,
  PRIMARY KEY (tenant, project, execution, file)
);
CREATE INDEX file_uses_file ON file_uses (file);
-- Of older files not all uses are known: they stay.
ALTER TABLE files ADD COLUMN counted boolean NOT NULL DEFAULT false;

-- A project's approvals in the order of the list, whatever became of them. One expression, so
-- that no other statement is planned through it.
CREATE INDEX approvals_listed ON approvals (tenant || '/' || project, requested_at, id);
