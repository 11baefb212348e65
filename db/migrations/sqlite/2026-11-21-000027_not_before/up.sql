-- When a run may begin that waits for the end of another: it was started with a delay, or its
-- secrets' balance was used up.
ALTER TABLE workflow_runs ADD COLUMN not_before bigint;

-- Which workflows' versions name a secret.
CREATE TABLE workflow_secrets (
  tenant   text NOT NULL,
  project  text NOT NULL,
  workflow text NOT NULL,
  secret   text NOT NULL,
  PRIMARY KEY (tenant, project, workflow, secret)
);
INSERT INTO workflow_secrets (tenant, project, workflow, secret)
SELECT DISTINCT d.tenant, d.project, d.name, s.value
FROM definitions d, json_each(d.terms, '$.secrets') s
WHERE d.kind = 'workflow' AND d.terms IS NOT NULL;
-- One expression, so that no other statement is planned through it.
CREATE INDEX workflow_secrets_secret ON workflow_secrets (tenant || '/' || secret);
