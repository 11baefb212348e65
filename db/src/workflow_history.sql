-- What is over of workflows, number FROM_N to TO_N: runs with their repeats, half of them a schedule's,
-- with files, tries and children; and beside them other workflows with their versions and schedules, of
-- which some are active. The same project has all of it.
CREATE TEMP TABLE g AS
SELECT n, (lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
  (1700000000000000 + n * 1000000)::bigint AS at
FROM generate_series(FROM_N::bigint, TO_N) n;
INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, retry_of, attempt, input, metadata, created_by,
  created_at, finished_at, output, extras)
SELECT 't0', 'shop', id, 'workflow', CASE WHEN n % 2 = 0 THEN 'ship' ELSE 'alone' END, 1,
  CASE WHEN n % 8 = 3 THEN 'test' ELSE 'production' END,
  CASE WHEN n % 4 = 2 THEN lag(id, 2) OVER (ORDER BY n) END, CASE WHEN n % 4 = 2 AND n - FROM_N >= 2 THEN 2 ELSE 1 END,
  '{}', '{}', 'key_test', at, at + 500000, '{}', true FROM g;
INSERT INTO executions (tenant, project, id, kind, status, reason, epoch, last_seq, last_event, started_at, updated_at)
SELECT 't0', 'shop', id, 'workflow', CASE WHEN n % 4 = 0 THEN 'failed' ELSE 'completed' END,
  CASE WHEN n % 4 = 0 THEN 'network' END, 1, 4, 3, at, at + 500000 FROM g;
INSERT INTO execution_extras (tenant, project, id) SELECT 't0', 'shop', id FROM g;
INSERT INTO journal (tenant, project, execution, seq, event, kind, step, at, payload)
SELECT 't0', 'shop', id, s, CASE WHEN s > 1 THEN s - 1 END,
  (ARRAY['execution.started', 'tool.called', 'tool.completed', 'execution.completed'])[s], s, at, '{}'
FROM g CROSS JOIN generate_series(1, 4) s;
INSERT INTO run_retries (tenant, project, workflow, retry_of, attempt, run, due_at, created_at)
SELECT 't0', 'shop', 'ship', k.retry_of, 2, k.id, k.created_at, k.created_at FROM execution_info k JOIN g ON g.id = k.id
WHERE k.retry_of IS NOT NULL;
INSERT INTO test_runs (tenant, project, execution, workflow, created_at, freed_at, over)
SELECT 't0', 'shop', id, 'alone', at, at + 1, true FROM g WHERE n % 8 = 3;
INSERT INTO schedule_runs (tenant, project, execution, schedule, tick)
SELECT 't0', 'shop', id, 'hourly', at FROM g WHERE n % 2 = 0;
INSERT INTO files (tenant, project, id, content_type, bytes, sha256, content, referred, created_by, created_at, counted)
SELECT 't0', 'shop', id, 'text/plain', 1, repeat('0', 64), 'x', true, 'key_test', at, true FROM g WHERE n % 4 = 0;
INSERT INTO file_uses (tenant, project, execution, file) SELECT 't0', 'shop', id, id FROM g WHERE n % 4 = 0;
-- One that many use.
INSERT INTO file_uses (tenant, project, execution, file)
SELECT 't0', 'shop', g.id, f.id FROM g CROSS JOIN (SELECT id FROM files WHERE name = 'much used') f WHERE g.n % 4 = 1;
INSERT INTO children (tenant, project, child, parent, step, call_id, relayed, done)
SELECT 't0', 'shop', g.id, p.id, 1, 'leaf-1', 4, true FROM g JOIN g p ON p.n = g.n - 1 WHERE g.n % 4 = 3;
INSERT INTO definition_heads (tenant, project, kind, name, version, updated_at)
SELECT 't0', 'shop', 'workflow', 'w' || n, 1, at FROM g WHERE n % 10 = 0;
INSERT INTO definitions (tenant, project, kind, name, version, document, digest, created_by, created_at)
SELECT 't0', 'shop', 'workflow', 'w' || n, 1, '{}', repeat('0', 64), 'key_test', at FROM g WHERE n % 10 = 0
UNION ALL
SELECT 't0', 'shop', 'workflow', 'ship', 100 + n, '{}', repeat('0', 64), 'key_test', at FROM g WHERE n % 10 = 5;
INSERT INTO workflows (tenant, project, name, state, changed_at)
SELECT 't0', 'shop', 'w' || n, CASE WHEN n % 20 = 0 THEN 'active' ELSE 'archived' END, at FROM g WHERE n % 10 = 0;
INSERT INTO schedules (tenant, project, name, id, document, anchor, due_at, next_tick, created_by, created_at, updated_at)
SELECT 't0', 'other', 'workflow:w' || n, id, (SELECT document FROM schedules WHERE name = 'hourly'), at, 4102444800000000,
  4102444800000000, 'key_test', at, at FROM g WHERE n % 10 = 0;
INSERT INTO workflow_runs (tenant, project, run, workflow)
SELECT 't0', 'shop', gen_random_uuid(), 'w' || n FROM g WHERE n % 10 = 0;
INSERT INTO coalesced_starts (tenant, project, name, body_digest, execution)
SELECT 't0', 'shop', 'key/' || n, repeat('0', 64), id FROM g WHERE n % 10 = 1;
INSERT INTO secret_holds (tenant, secret, held_until) SELECT 't0', 'secret-' || n, at FROM g WHERE n % 10 = 0;
DROP TABLE g;
