"""Images, blobs, tables, partition tables, tagged events and boot loader lines."""

from __future__ import annotations

from collections.abc import Callable

from attestation.errors import AttestationError
from attestation.uefi.device_security import parse_device_security
from attestation.uefi.firmware import parse_firmware_blob, parse_handoff_tables, parse_image_load
from attestation.uefi.loaders import parse_loader_line
from attestation.uefi.partition_table import parse_partition_table
from attestation.uefi.tagged import parse_tagged_events, walk_tagged_events

_READERS: tuple[Callable[[bytes], object], ...] = (
    parse_device_security,
    parse_image_load,
    parse_firmware_blob,
    lambda data: parse_firmware_blob(data, named=True),
    parse_handoff_tables,
    lambda data: parse_handoff_tables(data, named=True),
    parse_loader_line,
    parse_partition_table,
    parse_tagged_events,
    walk_tagged_events,
)


def run(data: bytes) -> None:
    """Read hostile bytes."""
    for read in _READERS:
        try:
            read(data)
        except AttestationError:
            continue
