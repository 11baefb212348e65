DROP TABLE tool_calls;
DROP TABLE limit_states;
DROP TABLE limits;
DROP INDEX executions_lanes;
ALTER TABLE executions DROP COLUMN lane;
