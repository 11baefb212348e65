DROP TABLE audit;
DROP TABLE audit_heads;
DROP FUNCTION audit_is_append_only();
DROP FUNCTION audit_heads_only_rise();
