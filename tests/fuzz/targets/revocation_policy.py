"""A revocation policy: TOML of an operator."""

from __future__ import annotations

from verifier.issuance.revocation_policy_file import load_revocation_policy


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_revocation_policy(data.decode(errors="replace"), "fuzz")
