-- What only some starts have lies apart, so that a plain start pays nothing for it.
ALTER TABLE execution_info ADD COLUMN extras boolean NOT NULL DEFAULT false;

CREATE TABLE execution_extras (
  tenant            text NOT NULL,
  project           text NOT NULL,
  id                blob NOT NULL,
  client_timestamp  text,
  client_timezone   text,
  sealed_headers    blob,               -- removed at the end
  parent            blob,                -- the execution that delegated it, of the same scope
  parent_step       integer,
  parent_call       text,
  command_source    text,
  command_id        text,
  reply_queue       text,                 -- where its end is told
  reply_correlation text,
  PRIMARY KEY (tenant, project, id),
  CHECK ((parent IS NULL) = (parent_step IS NULL) AND (parent IS NULL) = (parent_call IS NULL)),
  CHECK ((client_timestamp IS NULL) = (client_timezone IS NULL)),
  CHECK ((command_source IS NULL) = (command_id IS NULL)),
  CHECK (reply_correlation IS NULL OR reply_queue IS NOT NULL)
);
