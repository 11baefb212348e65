DROP TABLE children;
ALTER TABLE conversations DROP COLUMN active_agent;
ALTER TABLE conversations DROP COLUMN agent;
ALTER TABLE execution_extras DROP COLUMN parent_depth;
ALTER TABLE execution_extras DROP COLUMN pins;
ALTER TABLE definitions DROP COLUMN refers;
