"""The agent's measurements as a TCG Canonical Event Log, in its TLV encoding.

TCG Canonical Event Log Format 1.0, section 5.1 (CEL-TLV): every field is a type (u8), a length
(u32, network order) and so many bytes. A record is four fields in this order: RECNUM (0, u64
here), PCR (1, u8 here), DIGESTS (3: one TLV for each bank, its type the low byte of TPM_ALG_ID),
and one content field. The widths are those that go-tpm-tools writes.

The only content taken is IMA_TLV (8, section 5.4): PATH (0), DATAHASH (1, SHA-256 of what was
measured), and for all but plain files LABEL (7) with a word of :class:`RecordKind`. The digest of
a record is the bank's hash over the whole content field, type and length included, so nothing in
it can be relabelled. RECNUM and PCR are covered by no digest: they are held to 0, 1, 2 … and to
one PCR for the whole log, and the order is proven by the replay.

Paths are those of Linux: bytes. They are decoded as UTF-8 with ``surrogateescape``, which loses
nothing; :func:`shown_path` makes one fit to be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from attestation.algorithms import DIGEST_SIZES, HashAlgorithm
from attestation.errors import InputError, LimitExceeded, MalformedInput, ReplayMismatch
from attestation.limits import (
    MAX_AGENT_LOG_BYTES,
    MAX_AGENT_PATH_BYTES,
    MAX_AGENT_RECORDS,
    MAX_LOG_BANKS,
)
from attestation.pcr import PCR_COUNT, extend
from attestation.reader import Reader, Struct, pack
from attestation.refusals import RefusalCode

__all__ = [
    "CelLog",
    "CelRecord",
    "Measurement",
    "RecordKind",
    "content_digests",
    "decode_cel",
    "encode_content",
    "encode_record",
    "replay_cel",
    "shown_path",
    "whole_records",
]

_RECNUM: Final = 0
_PCR: Final = 1
_DIGESTS: Final = 3
_IMA_TLV: Final = 8
_PATH: Final = 0
_DATAHASH: Final = 1
_LABEL: Final = 7
_HEAD: Final = Struct(">BI")
_DIGEST_BYTES: Final = 32
_NAME: Final = "canonical event log"
_MOST_LABEL_BYTES: Final = 32
_SHOWN_CHARS: Final = 120


class RecordKind(StrEnum):
    """What one record says about its path; the word stands in LABEL."""

    FILE = ""
    """A regular file; DATAHASH is over its content."""
    AIBOM = "aibom"
    """The AIBOM document that holds from here on; PATH is its file name."""
    LINK = "link"
    """A symbolic link to a folder inside; DATAHASH is over the link's text."""
    REMOVED = "removed"
    """It is there no more; DATAHASH is what it was measured as last."""
    EXCLUDED = "excluded"
    """What matches this pattern is not measured unless the AIBOM lists it; DATAHASH is over it."""
    SPECIAL = "unmeasured-special"
    """Neither file, folder nor link: not read."""
    OUTSIDE = "unmeasured-outside"
    """A link that leads out, or nowhere: not followed."""
    UNREADABLE = "unmeasured-unreadable"
    """The agent may not read it."""
    TOO_LARGE = "unmeasured-too-large"
    """Larger than the agent reads."""
    UNSTEADY = "unmeasured-unsteady"
    """It kept changing while it was read."""
    FULL = "full"
    """The log has reached its cap; nothing after this was measured."""

    @property
    def measured(self) -> bool:
        """Whether DATAHASH tells the content of something present."""
        return self in _MEASURED


_MEASURED: Final = frozenset({RecordKind.FILE, RecordKind.LINK})
_KINDS: Final = {kind.value.encode(): kind for kind in RecordKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one record measures.

    Attributes:
        kind: What it says.
        path: Relative to the agent's root, ``/`` between names; see :class:`RecordKind`.
        digest: SHA-256; zeros where nothing was read.
    """

    kind: RecordKind
    path: str
    digest: bytes = bytes(_DIGEST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CelRecord:
    """One record as it came; its digests are not checked yet.

    Attributes:
        number: RECNUM.
        pcr: Its PCR.
        digests: The digest it states for each bank (TPM_ALG_ID).
        content: The whole content field.
        measured: What the content says.
    """

    number: int
    pcr: int
    digests: Mapping[int, bytes]
    content: bytes
    measured: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class CelLog:
    """A parsed log, believed by nobody before :func:`replay_cel`.

    Attributes:
        pcr: The one PCR of all records.
        banks: TPM_ALG_IDs of the banks that every record has a digest for.
        records: At least one.
    """

    pcr: int
    banks: tuple[int, ...]
    records: tuple[CelRecord, ...]


def encode_content(measured: Measurement) -> bytes:
    """Return the content field of a measurement: what is hashed, extended and logged."""
    path = measured.path.encode("utf-8", "surrogateescape")
    value = _tlv(_PATH, path) + _tlv(_DATAHASH, measured.digest)
    if measured.kind is not RecordKind.FILE:
        value += _tlv(_LABEL, measured.kind.value.encode())
    return _tlv(_IMA_TLV, value)


def content_digests(content: bytes, banks: Iterable[HashAlgorithm]) -> dict[HashAlgorithm, bytes]:
    """Return what a content field extends into each bank."""
    return {bank: bank.digest(content) for bank in banks}


def encode_record(
    number: int, pcr: int, digests: Mapping[HashAlgorithm, bytes], content: bytes
) -> bytes:
    """Return one record; ``content`` is a whole content field."""
    listed = b"".join(_tlv(bank, digest) for bank, digest in sorted(digests.items()))
    return (
        _tlv(_RECNUM, pack(">Q", number))
        + _tlv(_PCR, bytes((pcr,)))
        + _tlv(_DIGESTS, listed)
        + content
    )


def _tlv(kind: int, value: bytes) -> bytes:
    return pack(">BI", kind, len(value)) + value


# --- reading -----------------------------------------------------------------------------------


def decode_cel(data: bytes) -> CelLog:
    """Parse a whole log strictly.

    Raises:
        MalformedInput: ``agent-log-malformed`` if anything breaks the format, the numbering, or
            another content type than IMA_TLV occurs.
        LimitExceeded: ``too-large`` or ``too-many``.
    """
    reader = Reader(data, _NAME, limit=MAX_AGENT_LOG_BYTES)
    records: list[CelRecord] = []
    try:
        while reader.remaining:
            records.append(_record(reader, len(records), records[0] if records else None))
    except LimitExceeded:
        raise
    except InputError as error:
        raise MalformedInput(
            RefusalCode.AGENT_LOG_MALFORMED,
            f"record {len(records)}: {error.reason}",
            structure=_NAME,
            offset=error.offset,
        ) from error
    if not records:
        raise MalformedInput(
            RefusalCode.AGENT_LOG_MALFORMED, "the log holds no record", structure=_NAME
        )
    return CelLog(pcr=records[0].pcr, banks=tuple(records[0].digests), records=tuple(records))


def whole_records(data: bytes) -> int:
    """Return how many bytes at the start are whole fields of whole records.

    For the writer of a log whose last write may have been cut short; reads lengths only.
    """
    end = offset = fields = 0
    while offset + _HEAD.size <= len(data):
        reader = Reader(data[offset : offset + _HEAD.size], _NAME)
        offset += _HEAD.size + reader.unpack(_HEAD)[1]
        if offset > len(data):
            break
        fields += 1
        if fields % 4 == 0:
            end = offset
    return end


def _record(reader: Reader, number: int, first: CelRecord | None) -> CelRecord:
    if number >= MAX_AGENT_RECORDS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY, f"more than {MAX_AGENT_RECORDS} records", structure=_NAME
        )
    stated = _field(reader, _RECNUM, "RECNUM")
    if stated != pack(">Q", number):
        raise reader.wrong("RECNUM", stated[:8].hex(), f"{number} in 8 bytes")
    pcr = _field(reader, _PCR, "PCR")
    if len(pcr) != 1 or pcr[0] >= PCR_COUNT:
        raise reader.wrong("PCR", pcr[:4].hex(), f"one byte below {PCR_COUNT}")
    digests = _digests(_field(reader, _DIGESTS, "DIGESTS"))
    if first is not None and (pcr[0] != first.pcr or digests.keys() != first.digests.keys()):
        raise reader.wrong("record", "for another PCR or bank", "those of the first record")
    value = _field(reader, _IMA_TLV, "content (IMA_TLV)")
    return CelRecord(
        number=number,
        pcr=pcr[0],
        digests=digests,
        content=_tlv(_IMA_TLV, value),
        measured=_measured(value),
    )


def _field(reader: Reader, wanted: int, name: str) -> bytes:
    kind, length = reader.unpack(_HEAD, name)
    if kind != wanted:
        raise reader.wrong(f"type of {name}", kind, str(wanted))
    return reader.take(length, name)


def _digests(value: bytes) -> dict[int, bytes]:
    reader = Reader(value, "DIGESTS")
    found: dict[int, bytes] = {}
    while reader.remaining:
        alg_id, length = reader.unpack(_HEAD, "digest")
        size = DIGEST_SIZES.get(alg_id)
        if size is None or length != size or alg_id in found or len(found) >= MAX_LOG_BANKS:
            raise reader.wrong("digest", f"0x{alg_id:02x} of {length} bytes", "each bank once")
        found[alg_id] = reader.take(length, "digest")
    if not found:
        raise reader.wrong("DIGESTS", "empty", "a digest for each bank")
    return found


def _measured(value: bytes) -> Measurement:
    reader = Reader(value, "IMA_TLV")
    path = _field(reader, _PATH, "PATH")
    if not 0 < len(path) <= MAX_AGENT_PATH_BYTES or b"\0" in path:
        raise reader.wrong("PATH", f"{len(path)} bytes", "a path without NUL")
    digest = _field(reader, _DATAHASH, "DATAHASH")
    if len(digest) != _DIGEST_BYTES:
        raise reader.wrong("DATAHASH", f"{len(digest)} bytes", "32 (SHA-256)")
    kind = RecordKind.FILE
    if reader.remaining:
        label = _field(reader, _LABEL, "LABEL")
        found = _KINDS.get(label) if label else None
        if found is None:
            raise reader.wrong("LABEL", label[:_MOST_LABEL_BYTES], "a word of ours")
        kind = found
    reader.end()
    return Measurement(kind=kind, path=path.decode("utf-8", "surrogateescape"), digest=digest)


# --- replay ------------------------------------------------------------------------------------


def replay_cel(log: CelLog, bank: HashAlgorithm) -> bytes:
    """Return the PCR value that the log leads to in one bank, from zeros on.

    Each digest is computed from the content; what a record states must be the same.

    Raises:
        ReplayMismatch: ``agent-replay-mismatch`` if the log has no digests for the bank, or one
            is not that of its content.
    """
    if bank not in log.banks:
        raise _mismatch(f"the log has no {bank.label} digests")
    value = bytes(bank.size)
    for record in log.records:
        digest = bank.digest(record.content)
        if record.digests[bank] != digest:
            raise _mismatch(
                f"record {record.number} ({shown_path(record.measured.path)}) states a "
                f"{bank.label} digest that is not that of its content"
            )
        value = extend(bank, value, digest)
    return value


def _mismatch(reason: str) -> ReplayMismatch:
    return ReplayMismatch(RefusalCode.AGENT_REPLAY_MISMATCH, reason, structure=_NAME)


@lru_cache(maxsize=1024)
def shown_path(path: str) -> str:
    """Return a path as it may stand in results and on terminals.

    What is not printable (control characters, direction marks, bytes that are no UTF-8) and the
    backslash are escaped; the middle of a long path is left out.
    """
    shown = "".join(
        letter if letter.isprintable() and letter != "\\" else ascii(letter)[1:-1]
        for letter in path[: 4 * _SHOWN_CHARS]
    )
    if len(shown) <= _SHOWN_CHARS:
        return shown
    half = _SHOWN_CHARS // 2
    return f"{shown[:half]}…{path[-half:] if path[-half:].isprintable() else shown[-half:]}"
