"""From the outbox to MQTT, and MQTT queries to answers."""
