ALTER TABLE definitions DROP COLUMN label;
