"""Measurement logs: parsed as claims, believed only where a replay reproduces quoted PCRs."""
