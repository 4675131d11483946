"""Runtime policies (TOML)."""

from __future__ import annotations

from verifier.reference_values.runtime_policy_file import load_runtime_policy


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_runtime_policy(data.decode("utf-8", "replace"), "fuzz")
