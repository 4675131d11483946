"""Where firmware says that code and tables are: image loads, blobs and handoff tables.

None of these structures is covered by a digest (the digest is that of the code or table itself):
hints for people only (PFP 1.06, 10.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from attestation.errors import LimitExceeded
from attestation.limits import MAX_HANDOFF_TABLES
from attestation.reader import Reader, Struct
from attestation.refusals import RefusalCode
from attestation.uefi.guid import guid_text
from attestation.uefi.text import utf8_text

_IMAGE_LOAD: Final = Struct("<QQQQ")
_BLOB: Final = Struct("<QQ")
_COUNT: Final = Struct("<Q")
_TABLE: Final = Struct("<16sQ")


class ImageLoad(NamedTuple):
    """UEFI_IMAGE_LOAD_EVENT: where an image was loaded and from where (device path, bytes)."""

    address: int
    size: int
    link_time_address: int
    path: bytes


class FirmwareBlob(NamedTuple):
    """UEFI_PLATFORM_FIRMWARE_BLOB and …BLOB2: name (empty in the first form), address, size."""

    name: str
    base: int
    size: int


class HandoffTables(NamedTuple):
    """UEFI_HANDOFF_TABLE_POINTERS and …POINTERS2: name (empty in the first), (GUID, address)."""

    name: str
    tables: tuple[tuple[str, int], ...]


IMAGE_LOAD_SURPLUS: Final = 16
"""Bytes that shim and GRUB log after the structure: its C size, or a pointer's. A hint anyway."""


def parse_image_load(content: bytes, *, surplus: int = 0) -> ImageLoad:
    """Read an UEFI_IMAGE_LOAD_EVENT (PFP 1.06, 10.2).

    Args:
        content: The event's content.
        surplus: Bytes that may follow the structure.

    Raises:
        MalformedInput: If lengths do not add up (``truncated``, ``trailing-bytes``).
    """
    reader = Reader(content, "UEFI_IMAGE_LOAD_EVENT")
    address, size, link_time, path_bytes = reader.unpack(_IMAGE_LOAD, "fixed fields")
    path = reader.take(path_bytes, "device path")
    if reader.remaining > surplus:
        reader.end()
    return ImageLoad(address, size, link_time, path)


def parse_firmware_blob(content: bytes, *, named: bool = False) -> FirmwareBlob:
    """Read an UEFI_PLATFORM_FIRMWARE_BLOB, or with ``named`` a …BLOB2 (PFP 1.06, 10.2).

    Raises:
        MalformedInput: If lengths do not add up.
    """
    reader = Reader(content, "UEFI_PLATFORM_FIRMWARE_BLOB" + ("2" if named else ""))
    name = _description(reader) if named else ""
    base, size = reader.unpack(_BLOB, "address and size")
    reader.end()
    return FirmwareBlob(name, base, size)


def parse_handoff_tables(content: bytes, *, named: bool = False) -> HandoffTables:
    """Read UEFI_HANDOFF_TABLE_POINTERS, or with ``named`` …POINTERS2 (PFP 1.06, 10.2).

    Raises:
        MalformedInput: If lengths do not add up.
        LimitExceeded: ``too-many`` tables.
    """
    reader = Reader(content, "UEFI_HANDOFF_TABLE_POINTERS" + ("2" if named else ""))
    name = _description(reader) if named else ""
    count = reader.unpack(_COUNT, "number of tables")[0]
    if count > MAX_HANDOFF_TABLES:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{count} tables are announced, at most {MAX_HANDOFF_TABLES} are accepted",
            structure=reader.structure,
            offset=reader.offset,
        )
    tables = []
    for _ in range(count):
        vendor, address = reader.unpack(_TABLE, "table")
        tables.append((guid_text(vendor), address))
    reader.end()
    return HandoffTables(name, tuple(tables))


def _description(reader: Reader) -> str:
    raw = reader.take(reader.u8("description size"), "description")
    text = utf8_text(raw)
    if text is None:
        raise reader.wrong("description", raw.hex(), "text")
    return text
