-- Who paused or archived a workflow whose runs were not all told to end yet.
ALTER TABLE workflows ADD COLUMN ending text;
CREATE INDEX workflows_ending ON workflows (changed_at) WHERE ending IS NOT NULL;
