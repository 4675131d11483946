"""UEFI device paths and load options."""

from __future__ import annotations

import contextlib

from attestation.errors import AttestationError
from attestation.uefi.device_path import device_path_text
from attestation.uefi.load_option import parse_load_option


def run(data: bytes) -> None:
    """Read hostile bytes."""
    with contextlib.suppress(AttestationError):
        parse_load_option(data)
    device_path_text(data)
