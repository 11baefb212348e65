-- A plan that is made while a table is known to have a handful of rows walks all of them, and a
-- connection keeps its plans until the table is looked at again: with 20,000 rows a minute later, an
-- execution would read 200,000. Without statistics plans go by the keys, and from some thirty rows on
-- they do so with them (measured). So tables that grow with executions are not looked at while small.
DO $$
DECLARE
  grows text;
BEGIN
  FOREACH grows IN ARRAY ARRAY[
    'executions', 'execution_info', 'execution_extras', 'execution_labels', 'journal', 'inbox', 'approvals',
    'approval_votes', 'conversations', 'messages', 'children', 'commands_seen', 'outgoing', 'tool_calls',
    'webhook_deliveries', 'workflow_runs', 'run_retries', 'schedule_runs', 'test_runs', 'file_uses', 'audit'
  ] LOOP
    EXECUTE format('ALTER TABLE %I SET (autovacuum_analyze_threshold = 1000, autovacuum_vacuum_threshold = 1000)', grows);
  END LOOP;
END $$;
