"""IMA measurement lists (Linux ``security/integrity/ima``): ascii and binary, and their replay.

Templates: ``ima``, ``ima-ng``, ``ima-sig``; others are refused, never guessed. The list is a claim:
each entry's template hash is held against its template data, and the replay against quoted PCRs.

In banks other than SHA-1 the kernel extends, from 5.8 on, the bank's own hash of the template data,
and before that the SHA-1 template hash with zeros behind it; :func:`replay_ima` does either.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from attestation.algorithms import HashAlgorithm
from attestation.errors import LimitExceeded, MalformedInput, Unsupported
from attestation.limits import MAX_IMA_ENTRIES, MAX_IMA_LIST_BYTES
from attestation.pcr import PCR_COUNT, PcrBanks, extend
from attestation.reader import LE_U32, Reader, pack
from attestation.refusals import RefusalCode

_SHA1_BYTES: Final = 20
_MAX_FIELD_BYTES: Final = 64 * 1024
_LEGACY_NAME_BYTES: Final = 256
_TEMPLATES: Final = ("ima", "ima-ng", "ima-sig")
_ASCII_LINE: Final = re.compile(rb"\s*(\d{1,3}) ([0-9a-f]{40}) ([a-z0-9-]{1,32}) (.+)")
_ASCII_START: Final = re.compile(rb"\s*\d{1,3} [0-9a-f]{40} ")
_SIGNATURE: Final = re.compile(rb"(?:[0-9a-f]{2})+")


class ImaEntry(NamedTuple):
    """One measurement.

    Attributes:
        pcr: The PCR that was extended.
        digest: SHA-1 template hash; all zero for a violation.
        data: The template data that was hashed.
    """

    pcr: int
    digest: bytes
    data: bytes

    @property
    def is_violation(self) -> bool:
        """Whether the file changed while it was measured: ones were extended."""
        return not any(self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaList:
    """A list whose template hashes are those of its template data.

    Attributes:
        entries: In order.
        violations: How many of them are violations.
    """

    entries: tuple[ImaEntry, ...]
    violations: int


def parse_ima_list(raw: bytes) -> ImaList:
    """Read an ascii or binary runtime measurement list.

    Raises:
        LimitExceeded: If it is larger or longer than we accept.
        MalformedInput: If it is neither form, cut, or a template hash is not that of its data.
        Unsupported: If an entry has another template.
    """
    if len(raw) > MAX_IMA_LIST_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the list has {len(raw)} bytes, at most {MAX_IMA_LIST_BYTES} are accepted",
            structure="IMA list",
        )
    entries = _ascii_entries(raw) if _ASCII_START.match(raw) else _binary_entries(raw)
    return ImaList(entries=entries, violations=sum(entry.is_violation for entry in entries))


def replay_ima(
    measured: ImaList,
    banks: Sequence[HashAlgorithm],
    *,
    start: PcrBanks,
    padded: bool,
) -> Mapping[HashAlgorithm, Mapping[int, bytes]]:
    """Return the PCR values that the list leads to, for the PCRs that it extends.

    Args:
        measured: The list.
        banks: Which banks to compute.
        start: Values that a firmware log left; other PCRs start at zero.
        padded: Whether banks other than SHA-1 got the padded SHA-1 hash (kernels before 5.8).
    """
    result: dict[HashAlgorithm, dict[int, bytes]] = {}
    for bank in banks:
        before = start.get(bank, {})
        values: dict[int, bytes] = {}
        for entry in measured.entries:
            value = values.get(entry.pcr) or before.get(entry.pcr) or bytes(bank.size)
            values[entry.pcr] = extend(bank, value, _extended(entry, bank, padded=padded))
        result[bank] = values
    return result


def _extended(entry: ImaEntry, bank: HashAlgorithm, *, padded: bool) -> bytes:
    if entry.is_violation:
        return b"\xff" * bank.size
    if bank is HashAlgorithm.SHA1:
        return entry.digest
    return entry.digest.ljust(bank.size, b"\0") if padded else bank.digest(entry.data)


def _binary_entries(raw: bytes) -> tuple[ImaEntry, ...]:
    reader = Reader(raw, "IMA list")
    entries: list[ImaEntry] = []
    while reader.remaining:
        pcr = _le_u32(reader, "PCR index")
        digest = reader.take(_SHA1_BYTES, "template hash")
        name = _field(reader, "template name").decode("ascii", "replace")
        if name == "ima":
            file_digest = reader.take(_SHA1_BYTES, "file digest")
            candidates = [_legacy_data(file_digest, _field(reader, "file name"))]
        else:
            candidates = [_field(reader, "template data")]
        entries.append(_entry(entries, pcr, digest, name, candidates))
    return tuple(entries)


def _ascii_entries(raw: bytes) -> tuple[ImaEntry, ...]:
    entries: list[ImaEntry] = []
    for line in raw.rstrip(b"\n").split(b"\n"):
        found = _ASCII_LINE.fullmatch(line)
        if found is None:
            raise _malformed(entries, "the line is not 'PCR template-hash template …'")
        name = found[3].decode()
        candidates = _template_data(entries, name, found[4])
        digest = bytes.fromhex(found[2].decode())
        entries.append(_entry(entries, int(found[1]), digest, name, candidates))
    return tuple(entries)


def _template_data(entries: Sequence[ImaEntry], name: str, rest: bytes) -> list[bytes]:
    """Return what the line may have been made of: a name may hold blanks, a signature be absent."""
    digest_text, _, path = rest.partition(b" ")
    algorithm, colon, hexadecimal = digest_text.rpartition(b":")
    try:
        digest = bytes.fromhex(hexadecimal.decode("ascii"))
    except (UnicodeDecodeError, ValueError) as error:
        raise _malformed(entries, "the file digest is not hexadecimal") from error
    if name == "ima":
        return [_legacy_data(digest, path)]
    if not colon:
        raise _malformed(entries, "the file digest names no algorithm")
    first = _sized(algorithm + b":\0" + digest)
    if name == "ima-ng":
        return [first + _sized(path + b"\0")]
    plain = path.removesuffix(b" ")
    unsigned = [first + _sized(text + b"\0") + _sized(b"") for text in dict.fromkeys((path, plain))]
    signed_path, _, signature = path.rpartition(b" ")
    if signed_path and _SIGNATURE.fullmatch(signature):
        signature_field = _sized(bytes.fromhex(signature.decode()))
        return [first + _sized(signed_path + b"\0") + signature_field, *unsigned]
    return unsigned


def _entry(
    entries: Sequence[ImaEntry], pcr: int, digest: bytes, name: str, candidates: Sequence[bytes]
) -> ImaEntry:
    if len(entries) >= MAX_IMA_ENTRIES:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"the list has more than {MAX_IMA_ENTRIES} entries",
            structure="IMA list",
        )
    if name not in _TEMPLATES:
        raise Unsupported(
            RefusalCode.LOG_MALFORMED,
            f"entry {len(entries)} has the template {name[:32]!r}, known are "
            + ", ".join(_TEMPLATES),
            structure="IMA list",
        )
    if pcr >= PCR_COUNT:
        raise _malformed(entries, f"its PCR is {pcr}, wanted below {PCR_COUNT}")
    if not any(digest):
        return ImaEntry(pcr, digest, candidates[0])
    for data in candidates:
        if hashlib.sha1(data, usedforsecurity=False).digest() == digest:
            return ImaEntry(pcr, digest, data)
    raise _malformed(entries, "its template hash is not that of its template data")


def _legacy_data(digest: bytes, name: bytes) -> bytes:
    return digest + name[:_LEGACY_NAME_BYTES].ljust(_LEGACY_NAME_BYTES, b"\0")


def _sized(content: bytes) -> bytes:
    return pack("<I", len(content)) + content


def _le_u32(reader: Reader, field: str) -> int:
    value: int = reader.unpack(LE_U32, field)[0]
    return value


def _field(reader: Reader, field: str) -> bytes:
    size = _le_u32(reader, field)
    if size > _MAX_FIELD_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{field} announces {size} bytes, at most {_MAX_FIELD_BYTES} are accepted",
            structure="IMA list",
            offset=reader.offset,
        )
    return reader.take(size, field)


def _malformed(entries: Sequence[ImaEntry], what: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.LOG_MALFORMED, f"entry {len(entries)}: {what}", structure="IMA list"
    )
