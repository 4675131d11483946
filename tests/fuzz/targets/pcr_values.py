"""PCR values as ``verifier quote`` takes them."""

from __future__ import annotations

from verifier.cli.quote_inputs import parse_pcr_values


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_pcr_values(data)
