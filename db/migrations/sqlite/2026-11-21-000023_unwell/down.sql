DROP INDEX executions_unwell;
