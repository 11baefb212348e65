-- Finished executions number FROM_N to TO_N, as an installation leaves them that has run for long:
-- half of them one tenant's, a quarter another's, and so on; few that failed, few of one agent, few
-- test runs; with labels, journals, conversations, an approval of each tenth, and a child of each
-- twentieth.
CREATE TEMP TABLE g AS
SELECT n,
  (lpad(to_hex((1700000000000 + n * 1000)), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
  't' || least(9, floor(-ln(1 - (hashint4(n::int) & 65535) / 65536.0) / ln(2)))::int AS tenant,
  (1700000000000000 + n * 1000000)::bigint AS at,
  n % 2 = 0 AS agent
FROM generate_series(FROM_N::bigint, TO_N) n;
INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, conversation_id, end_user, input, messages,
  metadata, created_by, created_at, finished_at, output, error_type, error_message, input_tokens, extras)
SELECT tenant, 'shop', id, CASE WHEN agent THEN 'agent' ELSE 'workflow' END,
  CASE WHEN agent THEN CASE WHEN n % 10000 = 0 THEN 'rare' ELSE 'desk' END ELSE 'holdpoint.noop' END, 1,
  CASE WHEN n % 20000 = 1 THEN 'test' ELSE 'production' END,
  CASE WHEN agent THEN 'conv_' || (n / 10) END, 'user_' || (n % 1000), '{"order": ' || n || '}', NULL,
  '{}', 'key_test', at, at + 500000, '{"done": true}', CASE WHEN n % 5000 = 2 THEN 'logic' END,
  CASE WHEN n % 5000 = 2 THEN 'it failed' END, 10, false
FROM g;
INSERT INTO executions (tenant, project, id, kind, status, reason, epoch, last_seq, last_event, started_at, updated_at)
SELECT tenant, 'shop', id, CASE WHEN agent THEN 'agent' ELSE 'workflow' END,
  CASE WHEN n % 5000 = 2 THEN 'failed' ELSE 'completed' END, CASE WHEN n % 5000 = 2 THEN 'logic' END, 1, 4, 3, at, at + 500000
FROM g;
INSERT INTO execution_labels (tenant, project, key, value, id, created_at)
SELECT tenant, 'shop', 'team', 'team_' || (n % 10), id, at FROM g
UNION ALL SELECT tenant, 'shop', 'order', 'o' || n, id, at FROM g;
INSERT INTO journal (tenant, project, execution, seq, event, kind, step, at, payload)
SELECT tenant, 'shop', id, s, CASE WHEN s > 1 THEN s - 1 END, (ARRAY['execution.started','step.completed','step.completed','execution.completed'])[s],
  s, at, '{"step": ' || s || ', "output": "some output of a step, as long as most"}'
FROM g CROSS JOIN generate_series(1, 4) s;
INSERT INTO approvals (tenant, project, execution, call_id, id, step, agent, version, tool, arguments, digest, requested_at,
  expires_at, expiry_named, status, decided_by, decided_at, conversation_id)
SELECT tenant, 'shop', id, 'call_1', id, 2, 'desk', 1, CASE WHEN n % 10000 = 0 THEN 'rare' ELSE 'refund' END, '{"amount": 40}', repeat('0', 64), at,
  at + 1800000000, false, CASE WHEN n % 5000 = 0 THEN 'denied' ELSE 'approved' END, 'key_p', at + 100, 'conv_' || (n / 10)
FROM g WHERE n % 10 = 0;
INSERT INTO children (tenant, project, child, parent, step, call_id, relayed, done)
SELECT tenant, 'shop', id, before, 1, 'call_1', 4, true
FROM (SELECT n, tenant, id, lag(id) OVER (PARTITION BY tenant ORDER BY n) AS before FROM g) p
WHERE n % 20 = 7 AND before IS NOT NULL;
INSERT INTO conversations (tenant, project, id, created_at, last_message)
SELECT tenant, 'shop', 'conv_' || (n / 10), min(at), count(*) FROM g WHERE agent GROUP BY 1, 2, 3
ON CONFLICT DO NOTHING;
INSERT INTO messages (tenant, project, conversation, n, execution, role, message, at)
SELECT tenant, 'shop', 'conv_' || (n / 10), n, id, 'user',
  '{"role":"user","content":"where is my order?"}', at FROM g WHERE agent;
INSERT INTO audit (tenant, project, seq, at, actor, act, subject, details, prev_hash, hash)
SELECT tenant, 'shop', n, at, 'key_p', 'approval.decided', 'exe_' || n, '{"approved":true}', md5('p' || n), md5('a' || n) || md5('b' || n)
FROM g WHERE n % 10 = 0;
DROP TABLE g;
