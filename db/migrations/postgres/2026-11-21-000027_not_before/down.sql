DROP TABLE workflow_secrets;
ALTER TABLE workflow_runs DROP COLUMN not_before;
