-- What failed or was cancelled in a project: what an operator looks for among all that went well.
-- A row is in it from its end on. One expression, so that no other statement is planned through it.
CREATE INDEX executions_unwell ON executions (tenant || '/' || project || '/' || status)
  WHERE status IN ('failed', 'cancelled');
