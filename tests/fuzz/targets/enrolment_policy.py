"""An enrolment policy with its expressions of initial trust: TOML of an operator."""

from __future__ import annotations

from verifier.issuance.enrolment_policy_file import load_enrolment_policy


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_enrolment_policy(data.decode(errors="replace"), "fuzz")
