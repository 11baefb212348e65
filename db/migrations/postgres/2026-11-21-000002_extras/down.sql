DROP TABLE execution_extras;
ALTER TABLE execution_info DROP COLUMN extras;
