-- Which projects want their lifecycle events on the exchange.
CREATE TABLE event_settings (
  tenant     text    NOT NULL,
  project    text    NOT NULL,
  exchange   boolean NOT NULL,
  updated_by text    NOT NULL,
  updated_at bigint  NOT NULL,
  PRIMARY KEY (tenant, project)
);

-- What is still to be sent: a row names a line of a journal (a reply: the last one), written in
-- that line's transaction. The channel stands first: each is walked by itself, in the order of
-- executions and lines, and what one channel has to wait for holds up no other.
CREATE TABLE outgoing (
  channel   text   NOT NULL CHECK (channel IN ('exchange','webhooks','reply')),
  tenant    text   NOT NULL,
  project   text   NOT NULL,
  execution blob   NOT NULL,
  seq       bigint NOT NULL,
  at        bigint NOT NULL,
  PRIMARY KEY (channel, tenant, project, execution, seq)
);

-- Who sends: one worker at a time.
CREATE TABLE event_sender (
  id         integer PRIMARY KEY CHECK (id = 1),
  owner      blob,
  epoch      bigint  NOT NULL,
  expires_at bigint  NOT NULL
);
INSERT INTO event_sender (id, epoch, expires_at) VALUES (1, 0, 0);

CREATE TABLE webhooks (
  tenant        text   NOT NULL,
  project       text   NOT NULL,
  id            blob   NOT NULL,
  url           text   NOT NULL,
  description   text   NOT NULL,
  types         text   NOT NULL,          -- JSON array of types; empty: all
  secret        blob  NOT NULL,          -- sealed
  old_secret    blob,                    -- sealed; signs too until old_until
  old_until     bigint,
  failing_since bigint,                   -- the first failure since the last success
  disabled_at   bigint,
  disabled_for  text   CHECK (disabled_for IN ('failing','gone','asked')),
  created_by    text   NOT NULL,
  created_at    bigint NOT NULL,
  updated_at    bigint NOT NULL,
  PRIMARY KEY (tenant, project, id),
  CHECK ((old_secret IS NULL) = (old_until IS NULL)),
  CHECK ((disabled_at IS NULL) = (disabled_for IS NULL))
);

-- One event for one webhook: to be delivered at next_at, which is moved on by whoever takes it.
CREATE TABLE webhook_deliveries (
  tenant      text    NOT NULL,
  project     text    NOT NULL,
  webhook     blob    NOT NULL,
  event       blob    NOT NULL,
  kind        text    NOT NULL,
  execution   blob,                       -- NULL for a test
  seq         bigint,
  status      text    NOT NULL CHECK (status IN ('pending','delivered','given_up')),
  attempts    integer NOT NULL DEFAULT 0,
  next_at     bigint,
  response    integer,                    -- the last answer's status
  error       text,                       -- what went wrong last
  created_at  bigint  NOT NULL,
  finished_at bigint,
  CHECK ((status = 'pending') = (next_at IS NOT NULL)),
  CHECK ((status = 'pending') = (finished_at IS NULL)),
  CHECK ((execution IS NULL) = (seq IS NULL)),
  PRIMARY KEY (tenant, project, webhook, event)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;
