"""The AI agent's own files: found, hashed, extended into a PCR and kept in an event log."""
