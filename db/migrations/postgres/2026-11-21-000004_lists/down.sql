ALTER TABLE approvals DROP COLUMN list_digest;
