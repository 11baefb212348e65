DROP INDEX conversations_said;
ALTER TABLE conversations DROP COLUMN said_at;
