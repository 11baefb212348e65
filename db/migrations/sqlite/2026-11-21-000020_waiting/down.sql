DROP INDEX executions_waiting;
