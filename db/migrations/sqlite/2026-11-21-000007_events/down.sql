DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
DROP TABLE event_sender;
DROP TABLE outgoing;
DROP TABLE event_settings;
