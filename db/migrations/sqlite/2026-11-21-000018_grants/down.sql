ALTER TABLE approvals DROP COLUMN granted_by;
DROP TABLE grants;
