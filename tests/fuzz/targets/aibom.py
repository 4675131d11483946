"""AIBOMs (CycloneDX)."""

from __future__ import annotations

from attestation.wire.cyclonedx import read_aibom


def run(data: bytes) -> None:
    """Read hostile bytes."""
    read_aibom(data)
