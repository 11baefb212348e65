-- For a tool of an MCP server: the digest of the server's list that the call was asked for
-- under; a part of what a decision binds to.
ALTER TABLE approvals ADD COLUMN list_digest text;
