"""Decision: what a policy decision point is told about a device, and what it answers; pure."""
