DROP INDEX approvals_listed;
ALTER TABLE files DROP COLUMN counted;
DROP TABLE file_uses;
DROP TABLE retention_walk;
DROP TABLE retention;
