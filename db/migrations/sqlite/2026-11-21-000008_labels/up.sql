-- A workflow's version as its author wrote it (`document.version`); NULL for agents.
ALTER TABLE definitions ADD COLUMN label text;
