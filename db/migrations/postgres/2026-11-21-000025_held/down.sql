DROP INDEX workflows_ending;
ALTER TABLE workflows DROP COLUMN ending;
