-- What goes on beside a long history, and is older than all of it: so a list that is asked for it
-- has the longest way. The numbers do not depend on the history's.
CREATE TEMP TABLE l AS
SELECT n, (lpad(to_hex(1600000000000 + n * 1000), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
  (1600000000000000 + n * 1000000)::bigint AS at
FROM generate_series(1::bigint, 60) n;
INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, input, metadata, created_by, created_at)
SELECT 't0', 'shop', id, 'workflow', 'holdpoint.noop', 1, 'production', '{}', '{}', 'key_test', at FROM l;
INSERT INTO executions (tenant, project, id, kind, status, reason, last_seq, last_event, ready_at, updated_at)
SELECT 't0', 'shop', id, 'workflow', CASE WHEN n % 3 = 0 THEN 'queued' ELSE 'suspended' END,
  (ARRAY[NULL, 'approval', 'timer'])[n % 3 + 1], 0, 0, CASE WHEN n % 3 <> 1 THEN at END, at FROM l;
INSERT INTO approvals (tenant, project, execution, call_id, id, step, agent, version, tool, arguments, digest, requested_at,
  expires_at, expiry_named, status)
SELECT 't0', 'shop', id, 'call_1', id, 2, 'desk', 1, 'refund', '{"amount": 40}', repeat('0', 64), at,
  CASE WHEN n % 2 = 0 THEN 4102444800000000 ELSE at + 1 END, false, 'pending' FROM l WHERE n % 3 = 1;
INSERT INTO sessions (id, name, started_at, expires_at)
VALUES ('00000000-0000-7000-8000-000000000001', 'worker', 0, 4102444800000000),
  ('00000000-0000-7000-8000-000000000002', 'gone', 0, 1);
INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, input, metadata, created_by, created_at)
SELECT 't0', 'shop', gen_random_uuid(), 'workflow', 'holdpoint.noop', 1, 'production', '{}', '{}', 'held', n
FROM generate_series(1, 10) n;
INSERT INTO executions (tenant, project, id, kind, status, owner, updated_at)
SELECT tenant, project, id, kind, 'running', '00000000-0000-7000-8000-000000000002', 1 FROM execution_info
WHERE created_by = 'held';
INSERT INTO retention (tenant, project, finished_after) VALUES ('t0', 'shop', 86400000000);
DROP TABLE l;
