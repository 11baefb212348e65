-- When a run may begin that waits for the end of another: it was started with a delay, or its
-- secrets' balance was used up.
ALTER TABLE workflow_runs ADD COLUMN not_before bigint;

-- Which workflows' versions name a secret.
CREATE TABLE workflow_secrets (
  tenant   text NOT NULL,
  project  text NOT NULL,
  workflow text NOT NULL,
  secret   text NOT NULL
);
INSERT INTO workflow_secrets (tenant, project, workflow, secret)
SELECT DISTINCT d.tenant, d.project, d.name, s.secret
FROM definitions d, json_array_elements_text(d.terms::json -> 'secrets') s(secret)
WHERE d.kind = 'workflow' AND d.terms IS NOT NULL;
-- One expression, so that no other statement is planned through it.
CREATE INDEX workflow_secrets_secret ON workflow_secrets ((tenant || '/' || secret));
-- Last, on purpose: see execution_info.
ALTER TABLE workflow_secrets ADD PRIMARY KEY (tenant, project, workflow, secret);
