-- When a run may begin that waits for the end of another: it was started with a delay, or its
-- secrets' balance was used up.
ALTER TABLE workflow_runs ADD COLUMN not_before bigint;
