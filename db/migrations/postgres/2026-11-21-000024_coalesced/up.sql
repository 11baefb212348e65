-- Idempotency keys and ids of starts that were coalesced with a run that waited: they lead to
-- that run for as long as it is kept.
CREATE TABLE coalesced_starts (
  tenant      text NOT NULL,
  project     text NOT NULL,
  name        text NOT NULL, -- `key/…` or `id/…`
  body_digest text NOT NULL,
  execution   uuid NOT NULL
) WITH (autovacuum_analyze_threshold = 1000, autovacuum_vacuum_threshold = 1000);
CREATE INDEX coalesced_starts_run ON coalesced_starts (tenant, project, execution);
-- Last, on purpose: see execution_info.
ALTER TABLE coalesced_starts ADD PRIMARY KEY (tenant, project, name);
