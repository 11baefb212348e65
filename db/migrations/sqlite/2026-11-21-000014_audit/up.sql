-- The audit: one chain for each tenant and project, and one for the installation (both names are
-- empty). A row carries the hash of the one before it.
CREATE TABLE audit (
  tenant    text   NOT NULL,
  project   text   NOT NULL,
  seq       bigint NOT NULL,
  at        bigint NOT NULL,
  actor     text   NOT NULL,             -- a key's id, scheduler, worker, cron or operator
  end_user  text,
  act       text   NOT NULL,
  subject   text   NOT NULL,             -- an id or a name
  details   text   NOT NULL,             -- a JSON object with sorted keys
  prev_hash text   NOT NULL,
  hash      text   NOT NULL,
  PRIMARY KEY (tenant, project, seq),
  CHECK (seq > 0),
  CHECK ((seq = 1) = (prev_hash = '')),
  CHECK (length(hash) = 64),
  CHECK (end_user <> '')
);
-- One expression each, so that no other statement is planned through them.
CREATE INDEX audit_by_subject ON audit (tenant || '/' || project || '/' || subject, seq);
CREATE INDEX audit_by_actor ON audit (tenant || '/' || project || '/' || actor, seq);
CREATE INDEX audit_by_act ON audit (tenant || '/' || project || '/' || act, seq);

-- Where each chain ends.
CREATE TABLE audit_heads (
  tenant  text   NOT NULL,
  project text   NOT NULL,
  seq     bigint NOT NULL,
  hash    text   NOT NULL,
  PRIMARY KEY (tenant, project)
);

CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only: UPDATE is refused'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only: DELETE is refused'); END;
-- INSERT OR REPLACE removes a row without a trigger of its own.
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
  WHEN EXISTS (SELECT 1 FROM audit a WHERE a.tenant = NEW.tenant AND a.project = NEW.project AND a.seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only: REPLACE is refused'); END;
CREATE TRIGGER audit_heads_no_delete BEFORE DELETE ON audit_heads
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only: DELETE is refused'); END;
CREATE TRIGGER audit_heads_rise BEFORE UPDATE ON audit_heads
  WHEN NEW.tenant <> OLD.tenant OR NEW.project <> OLD.project OR NEW.seq <= OLD.seq
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only: its end only rises'); END;
