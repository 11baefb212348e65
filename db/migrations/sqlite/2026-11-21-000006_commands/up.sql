-- Commands that were accepted, so that a repeat is answered as the first was.
CREATE TABLE commands_seen (
  tenant    text   NOT NULL,
  project   text   NOT NULL,
  source    text   NOT NULL,
  id        text   NOT NULL,
  execution blob   NOT NULL,
  seen_at   bigint NOT NULL,
  PRIMARY KEY (tenant, project, source, id)
);
CREATE INDEX commands_seen_oldest ON commands_seen (seen_at);

-- How often a message was tried that came back to us; gone once it is settled.
CREATE TABLE command_attempts (
  id       text    PRIMARY KEY,
  attempts integer NOT NULL CHECK (attempts > 0),
  tried_at bigint  NOT NULL
);

-- Why in one word, whose credential it had, and what else a message carries beside its headers.
ALTER TABLE parked_messages ADD COLUMN code text NOT NULL DEFAULT 'dead';
ALTER TABLE parked_messages ADD COLUMN key_id blob;
ALTER TABLE parked_messages ADD COLUMN properties text NOT NULL DEFAULT '{}';
-- Newest first in one project. One expression, so that no other statement is planned through it.
CREATE INDEX parked_messages_newest ON parked_messages ((tenant || '/' || project), parked_at DESC, id DESC);
