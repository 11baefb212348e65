DROP TABLE messages;
ALTER TABLE conversations DROP COLUMN last_message;
