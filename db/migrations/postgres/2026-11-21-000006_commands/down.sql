DROP INDEX parked_messages_newest;
ALTER TABLE parked_messages DROP COLUMN properties;
ALTER TABLE parked_messages DROP COLUMN key_id;
ALTER TABLE parked_messages DROP COLUMN code;
DROP TABLE command_attempts;
DROP TABLE commands_seen;
