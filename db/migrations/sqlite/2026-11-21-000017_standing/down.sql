ALTER TABLE sessions DROP COLUMN about;
