DO $$
DECLARE
  grows text;
BEGIN
  FOREACH grows IN ARRAY ARRAY[
    'executions', 'execution_info', 'execution_extras', 'execution_labels', 'journal', 'inbox', 'approvals',
    'approval_votes', 'conversations', 'messages', 'children', 'commands_seen', 'outgoing', 'tool_calls',
    'webhook_deliveries', 'workflow_runs', 'run_retries', 'schedule_runs', 'test_runs', 'file_uses', 'audit'
  ] LOOP
    EXECUTE format('ALTER TABLE %I RESET (autovacuum_analyze_threshold, autovacuum_vacuum_threshold)', grows);
  END LOOP;
END $$;
