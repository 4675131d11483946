"""The AK as ``verifier quote`` takes it: PEM or TPM structure."""

from __future__ import annotations

from verifier.cli.quote_inputs import load_ak


def run(data: bytes) -> None:
    """Read hostile bytes."""
    load_ak(data)
