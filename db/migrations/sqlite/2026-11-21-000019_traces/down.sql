ALTER TABLE execution_extras DROP COLUMN traceparent;
