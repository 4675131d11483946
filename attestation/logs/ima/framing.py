"""Binary IMA lists: where one entry ends and the next begins.

An entry is PCR (u32), template hash, template name (u32 and bytes), template data (u32 and bytes),
all little-endian (Linux ``ima_fs.c``; with ``ima_canonical_fmt`` on other machines). The template
hash has 20 bytes, or those of the bank in whose own list (``binary_runtime_measurements_sha256``)
it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from attestation.errors import LimitExceeded
from attestation.limits import MAX_IMA_ENTRIES, MAX_IMA_FIELD_BYTES, MAX_IMA_LIST_BYTES
from attestation.logs.ima.template import (
    FIELDS,
    LEGACY,
    LEGACY_DIGEST_BYTES,
    STRUCTURE,
    legacy_data,
    malformed,
    unknown_template,
)
from attestation.pcr import PCR_COUNT
from attestation.reader import LE_U32, Reader, Struct
from attestation.refusals import RefusalCode

HASH_SIZES: Final = (20, 32, 48, 64)
"""Sizes a template hash may have."""

_HEADS: Final = {size: Struct(f"<I{size}sI") for size in HASH_SIZES}
_LONGEST_NAME: Final = max(len(name) for name in FIELDS)


class ImaEntry(NamedTuple):
    """One measurement.

    Attributes:
        pcr: The PCR that was extended.
        digest: Template hash; all zero for a violation. Nothing proves it: see
            :mod:`attestation.logs.ima.follow`.
        template: The template's name.
        data: The template data that was hashed.
    """

    pcr: int
    digest: bytes
    template: bytes
    data: bytes

    @property
    def is_violation(self) -> bool:
        """Whether the file changed while it was measured: ones were extended."""
        return not any(self.digest)


def check_size(raw: bytes) -> None:
    """Refuse a list that is too large to be read.

    Raises:
        LimitExceeded: ``too-large``.
    """
    if len(raw) > MAX_IMA_LIST_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the list has {len(raw)} bytes, at most {MAX_IMA_LIST_BYTES} are accepted",
            structure=STRUCTURE,
        )


def hash_size(raw: bytes) -> int:
    """Return the size of the template hashes of a binary list, told by where a name follows.

    Without a known name after any of the sizes it is 20, and reading says what is wrong.
    """
    for size in HASH_SIZES:
        start = LE_U32.size + size
        if start + LE_U32.size > len(raw):
            break
        length: int = LE_U32.unpack_from(raw, start)[0]
        first = start + LE_U32.size
        if length <= _LONGEST_NAME and raw[first : first + length] in FIELDS:
            return size
    return HASH_SIZES[0]


def read_entry(raw: bytes, start: int, size: int, number: int) -> tuple[ImaEntry, int]:
    """Read the entry that begins at ``start``.

    Args:
        raw: A binary list.
        start: Where the entry begins.
        size: Bytes of a template hash.
        number: The entry's number, for messages.

    Returns:
        The entry, and where the next one begins.

    Raises:
        InputError: If it is cut, its template unknown or its PCR impossible.
    """
    head, end = _HEADS[size], len(raw)
    begin = start + head.size
    if begin <= end:
        pcr, digest, length = head.unpack_from(raw, start)
        after = begin + length
        name = raw[begin:after]
        if name in FIELDS and name != LEGACY and after + LE_U32.size <= end and pcr < PCR_COUNT:
            count: int = LE_U32.unpack_from(raw, after)[0]
            begin = after + LE_U32.size
            if count <= MAX_IMA_FIELD_BYTES and begin + count <= end:
                return ImaEntry(pcr, digest, name, raw[begin : begin + count]), begin + count
    return _read_carefully(raw, start, size, number)


def _read_carefully(raw: bytes, start: int, size: int, number: int) -> tuple[ImaEntry, int]:
    """Read an entry field by field, and say what is wrong with it."""
    reader = Reader(raw, STRUCTURE)
    reader.offset = start
    pcr: int = reader.unpack(LE_U32, "PCR index")[0]
    digest = reader.take(size, "template hash")
    name = _field(reader, "template name")
    if name not in FIELDS:
        raise unknown_template(name, number)
    if name == LEGACY:
        file_digest = reader.take(LEGACY_DIGEST_BYTES, "file digest")
        data = legacy_data(file_digest, _field(reader, "file name"))
    else:
        data = _field(reader, "template data")
    if pcr >= PCR_COUNT:
        raise malformed(number, f"its PCR is {pcr}, wanted below {PCR_COUNT}")
    return ImaEntry(pcr, digest, name, data), reader.offset


def walk(raw: bytes, start: int = 0, number: int = 0) -> Iterator[ImaEntry]:
    """Yield the entries of a binary list, made one by one.

    Args:
        raw: A binary list.
        start: Where to begin.
        number: Number of the entry that begins there.

    Raises:
        InputError: If an entry cannot be read, or there are too many.
    """
    size, end = hash_size(raw), len(raw)
    while start < end:
        if number >= MAX_IMA_ENTRIES:
            raise too_many()
        entry, start = read_entry(raw, start, size, number)
        yield entry
        number += 1


def too_many() -> LimitExceeded:
    """Make the error for a list with too many entries."""
    return LimitExceeded(
        RefusalCode.TOO_MANY,
        f"the list has more than {MAX_IMA_ENTRIES} entries",
        structure=STRUCTURE,
    )


def _field(reader: Reader, field: str) -> bytes:
    size: int = reader.unpack(LE_U32, field)[0]
    if size > MAX_IMA_FIELD_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{field} announces {size} bytes, at most {MAX_IMA_FIELD_BYTES} are accepted",
            structure=STRUCTURE,
            offset=reader.offset,
        )
    return reader.take(size, field)
