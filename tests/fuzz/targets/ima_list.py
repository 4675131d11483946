"""IMA lists as anybody hands them over: binary or ascii."""

from __future__ import annotations

from attestation.logs.ima.measured import parse_ima_list


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_ima_list(data)
