-- What a worker says of itself, as JSON: its places, its broker, its clock, and the names of the
-- secrets that it has. Written when it changes, never by a heartbeat.
ALTER TABLE sessions ADD COLUMN about text;
