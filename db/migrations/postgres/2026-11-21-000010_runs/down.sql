DROP TABLE secret_holds;
DROP TABLE run_retries;
DROP TABLE workflow_runs;
DROP TABLE workflows;
ALTER TABLE definitions DROP COLUMN terms;
