"""Files of certificate profiles."""

from __future__ import annotations

from verifier.issuance.profile_file import load_profiles


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_profiles(data.decode("utf-8", errors="replace"), "fuzz")
