ALTER TABLE execution_extras DROP COLUMN files;
DROP TABLE files;
DROP TABLE test_runs;
