"""The device's own presence on an MQTT 5 broker."""
