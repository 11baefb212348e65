DROP INDEX approvals_listed;
ALTER TABLE files DROP COLUMN counted;
DROP TABLE file_uses, retention_walk, retention;
