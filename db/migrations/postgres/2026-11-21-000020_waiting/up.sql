-- What waits in a project. No column of it changes under a lease, and what never waits is not in it.
-- One expression, so that no other statement is planned through it.
CREATE INDEX executions_waiting ON executions ((tenant || '/' || project)) WHERE status = 'suspended';
