"""Runs the conformance cases against this verifier, through its public entry points."""
