"""Appraisal policies (TOML)."""

from __future__ import annotations

from verifier.appraisal.policy_file import load_policy


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_policy(data.decode("utf-8", "replace"), "fuzz")
