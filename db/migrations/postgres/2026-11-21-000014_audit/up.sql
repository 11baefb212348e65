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
  CHECK (seq > 0),
  CHECK ((seq = 1) = (prev_hash = '')),
  CHECK (length(hash) = 64),
  CHECK (end_user <> '')
);
-- One expression each, so that no other statement is planned through them.
CREATE INDEX audit_by_subject ON audit ((tenant || '/' || project || '/' || subject), seq);
CREATE INDEX audit_by_actor ON audit ((tenant || '/' || project || '/' || actor), seq);
CREATE INDEX audit_by_act ON audit ((tenant || '/' || project || '/' || act), seq);
-- Last, on purpose: see execution_info.
ALTER TABLE audit ADD PRIMARY KEY (tenant, project, seq);

-- Where each chain ends. Its lock puts the writers of a chain one after the other.
CREATE TABLE audit_heads (
  tenant  text   NOT NULL,
  project text   NOT NULL,
  seq     bigint NOT NULL,
  hash    text   NOT NULL,
  PRIMARY KEY (tenant, project)
) WITH (fillfactor = 50);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP;
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_heads_stay BEFORE DELETE OR TRUNCATE ON audit_heads
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE FUNCTION audit_heads_only_rise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.tenant <> OLD.tenant OR NEW.project <> OLD.project OR NEW.seq <= OLD.seq THEN
    RAISE EXCEPTION 'the audit is append-only: its end only rises';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_heads_rise BEFORE UPDATE ON audit_heads
  FOR EACH ROW EXECUTE FUNCTION audit_heads_only_rise();
