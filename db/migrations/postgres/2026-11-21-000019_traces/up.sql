-- The W3C trace context of whoever started the execution, where they told one.
ALTER TABLE execution_extras ADD COLUMN traceparent text;
