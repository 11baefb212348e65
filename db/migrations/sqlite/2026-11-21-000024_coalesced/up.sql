-- Idempotency keys and ids of starts that were coalesced with a run that waited: they lead to
-- that run for as long as it is kept.
CREATE TABLE coalesced_starts (
  tenant      text NOT NULL,
  project     text NOT NULL,
  name        text NOT NULL, -- `key/…` or `id/…`
  body_digest text NOT NULL,
  execution   blob NOT NULL,
  PRIMARY KEY (tenant, project, name)
);
CREATE INDEX coalesced_starts_run ON coalesced_starts (tenant, project, execution);
