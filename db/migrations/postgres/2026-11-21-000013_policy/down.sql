ALTER TABLE api_keys DROP COLUMN groups;
DROP TABLE approval_votes;
ALTER TABLE approvals DROP COLUMN closes_at;
ALTER TABLE approvals DROP COLUMN escalated_at;
ALTER TABLE approvals DROP COLUMN policy;
