-- The policy that a question was asked under, as JSON; none is that of everyone with the right.
ALTER TABLE approvals ADD COLUMN policy text;
-- When further approvers were asked.
ALTER TABLE approvals ADD COLUMN escalated_at bigint;
-- When the last of its approvers' time is over, where there are further ones.
ALTER TABLE approvals ADD COLUMN closes_at bigint;

-- What people said about a question that asks for several. A question that is asked again
-- under the same call is another approval: the votes on the first do not count.
CREATE TABLE approval_votes (
  tenant    text    NOT NULL,
  project   text    NOT NULL,
  execution uuid    NOT NULL,
  call_id   text    NOT NULL,
  approval  uuid    NOT NULL,
  person    text    NOT NULL,               -- the key's own end user, else the key
  key       text    NOT NULL,
  at        bigint  NOT NULL,
  approved  boolean NOT NULL,
  reason    text,
  arguments text,                           -- edited ones
  digest    text    NOT NULL,               -- of what would be sent
  CHECK (arguments IS NULL OR approved)
);
-- Last, on purpose: see execution_info.
ALTER TABLE approval_votes ADD PRIMARY KEY (tenant, project, execution, call_id, approval, person);

-- A JSON array of names, by which policies find a key.
ALTER TABLE api_keys ADD COLUMN groups text;
