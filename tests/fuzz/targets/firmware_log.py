"""Firmware event logs, both formats."""

from __future__ import annotations

from attestation.logs.tcg import parse_firmware_log


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_firmware_log(data)
