"""Reference sets (TOML)."""

from __future__ import annotations

from verifier.reference_values.toml_file import load_reference_set


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_reference_set(data.decode("utf-8", "replace"), "fuzz")
