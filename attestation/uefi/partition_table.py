"""UEFI_GPT_DATA: a partition table as firmware measures it (PFP 1.06, 10.2; UEFI 2.10, 5.3)."""

from __future__ import annotations

from typing import Final, NamedTuple

from attestation.errors import LimitExceeded
from attestation.limits import MAX_GPT_PARTITIONS
from attestation.reader import Reader, Struct
from attestation.refusals import RefusalCode
from attestation.uefi.guid import guid_text
from attestation.uefi.text import utf16_text

_STRUCTURE: Final = "UEFI_GPT_DATA"
_HEADER: Final = Struct("<8sIIIIQQQQ16sQIII")
_COUNT: Final = Struct("<Q")
_ENTRY: Final = Struct("<16s16sQQQ72s")
_SIGNATURE: Final = b"EFI PART"
_HEADER_BYTES: Final = _HEADER.size


class Partition(NamedTuple):
    """One partition: type and own GUID in text, first and last block, name."""

    kind: str
    unique: str
    first: int
    last: int
    name: str


class PartitionTable(NamedTuple):
    """One GPT, believed by nobody yet: the disk's GUID in text and the used partitions' entries."""

    disk: str
    entries: tuple[tuple[bytes, bytes, int, int, int, bytes], ...]

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The used partitions."""
        return tuple(
            Partition(guid_text(kind), guid_text(unique), first, last, utf16_text(name) or "")
            for kind, unique, first, last, _, name in self.entries
        )


def parse_partition_table(content: bytes) -> PartitionTable:
    """Read the content of an EV_EFI_GPT_EVENT.

    Raises:
        MalformedInput: If it is not a GPT header (``value-out-of-range``) or lengths do not add
            up (``truncated``, ``trailing-bytes``).
        LimitExceeded: ``too-many`` partitions.
    """
    reader = Reader(content, _STRUCTURE)
    header = reader.unpack(_HEADER, "partition table header")
    if header[0] != _SIGNATURE:
        raise reader.wrong("Signature", header[0].hex(), "4546492050415254, EFI PART")
    size = header[12]
    if size < _ENTRY.size:
        raise reader.wrong("SizeOfPartitionEntry", size, f"at least {_ENTRY.size}")
    count = reader.unpack(_COUNT, "number of partitions")[0]
    if count > MAX_GPT_PARTITIONS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{count} partitions are announced, at most {MAX_GPT_PARTITIONS} are accepted",
            structure=_STRUCTURE,
            offset=reader.offset,
        )
    entries = []
    for _ in range(count):
        entries.append(reader.unpack(_ENTRY, "partition"))
        reader.take(size - _ENTRY.size, "rest of the partition entry")
    reader.end()
    return PartitionTable(guid_text(header[9]), tuple(entries))
