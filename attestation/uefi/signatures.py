"""EFI_SIGNATURE_LIST and EFI_SIGNATURE_DATA: what PK, KEK, db and dbx hold (UEFI 2.10, 32.4.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from attestation.errors import LimitExceeded
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_SIGNATURE_ENTRIES, MAX_SIGNATURE_LISTS
from attestation.reader import Reader, Struct
from attestation.refusals import RefusalCode
from attestation.uefi.guid import CERT_SHA256, CERT_X509, GUID_BYTES, SHIM_LOCK
from attestation.uefi.subject import subject_of

_STRUCTURE: Final = "EFI_SIGNATURE_LIST"
_LIST_HEADER: Final = Struct("<16sIII")
_HASH_ENTRY: Final = Struct("16x32s")
_SHA256_BYTES: Final = 32
_SUBJECTS_KEPT: Final = 512
"""Certificates whose subject is remembered: at most 8 MiB of hostile bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureLists:
    """All the lists of one variable.

    Attributes:
        certificates: DER of each X.509 certificate, in order.
        hashes: SHA-256 image hashes.
        others: Entries of other kinds.
    """

    certificates: tuple[bytes, ...]
    hashes: frozenset[bytes]
    others: int


def parse_signature_lists(data: bytes) -> SignatureLists:
    """Read the data of a Secure Boot variable: any number of signature lists, nothing else.

    Every list states its own size, that of a header to pass over and that of one entry; they are
    held against what remains before anything is read, and entries must fill the list exactly.

    Args:
        data: The variable's data; empty for an empty database.

    Returns:
        What the lists hold.

    Raises:
        MalformedInput: If sizes do not fit (``truncated``, ``value-out-of-range``).
        LimitExceeded: ``too-many`` lists or entries.
    """
    reader = Reader(data, _STRUCTURE)
    certificates: list[bytes] = []
    hashes: set[bytes] = set()
    others = lists = entries = 0
    while reader.remaining:
        kind, size, count, body = _read_list(reader)
        lists += 1
        entries += count
        if lists > MAX_SIGNATURE_LISTS or entries > MAX_SIGNATURE_ENTRIES:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"more than {MAX_SIGNATURE_LISTS} lists or {MAX_SIGNATURE_ENTRIES} entries",
                structure=_STRUCTURE,
                offset=reader.offset,
            )
        if kind == CERT_SHA256:
            if size != _HASH_ENTRY.size:
                raise reader.wrong("SignatureSize", size, "48 for SHA-256 hashes")
            hashes.update([entry[0] for entry in _HASH_ENTRY.iter_unpack(body)])
        elif kind == CERT_X509:
            cursor = Reader(body, _STRUCTURE)
            certificates += [cursor.take(size)[GUID_BYTES:] for _ in range(count)]
        else:
            others += count
    return SignatureLists(certificates=tuple(certificates), hashes=frozenset(hashes), others=others)


def _read_list(reader: Reader) -> tuple[bytes, int, int, bytes]:
    """Return type, size of an entry, number of entries and their bytes, of the next list."""
    kind, list_size, header_size, size = reader.unpack(_LIST_HEADER, "list header")
    body_size = list_size - _LIST_HEADER.size
    if not 0 <= body_size <= reader.remaining:
        raise reader.wrong(
            "SignatureListSize", list_size, f"28 to {reader.remaining + _LIST_HEADER.size}"
        )
    if header_size > body_size:
        raise reader.wrong("SignatureHeaderSize", header_size, f"at most {body_size}")
    entries_size = body_size - header_size
    if size <= GUID_BYTES or (entries_size and size > entries_size):
        raise reader.wrong("SignatureSize", size, f"17 to {entries_size}")
    count, rest = divmod(entries_size, size)
    if rest:
        raise reader.wrong(
            "SignatureSize", size, f"a size that divides the {entries_size} bytes of entries"
        )
    reader.take(header_size, "signature header")
    return kind, size, count, reader.take(entries_size, "entries")


@dataclass(frozen=True, slots=True)
class Admission:
    """What one EV_EFI_VARIABLE_AUTHORITY event names: a certificate, a hash or other data.

    Attributes:
        certificate: The DER certificate, None if it is none.
        value: SHA-256 of the certificate, the image hash, or SHA-256 of the data.
        subject: The certificate's subject; text for shim's text variables; else empty.
    """

    certificate: bytes | None
    value: bytes
    subject: str


def parse_admission(vendor: bytes, data: bytes) -> Admission:
    """Read the data of a variable that admitted an image (PFP 1.06, 10.4.4: EFI_SIGNATURE_DATA).

    Firmware logs the entry with its owner; shim logs a bare certificate, or the data of
    variables that are no signatures at all (``SbatLevel``, ``MokListTrusted``).

    Args:
        vendor: The variable's vendor GUID.
        data: The variable's data.

    Raises:
        MalformedInput: ``truncated`` if firmware's data is too short for an entry.
    """
    reader = Reader(data, "EFI_SIGNATURE_DATA")
    shim = vendor == SHIM_LOCK
    if not shim or (len(data) >= GUID_BYTES and certificate_subject(data) is None):
        reader.take(GUID_BYTES, "owner")
    entry = reader.rest()
    subject = certificate_subject(entry)
    if subject is not None:
        return Admission(entry, hashlib.sha256(entry).digest(), subject)
    if len(entry) == _SHA256_BYTES and not shim:
        return Admission(None, entry, "")
    return Admission(None, hashlib.sha256(data).digest(), "")


def certificate_subject(der: bytes) -> str | None:
    """Return a certificate's subject for people (RFC 4514), None if it is no certificate.

    Remembered by content, because the same few vendors' certificates stand in every machine's db;
    what is too large for a certificate is not kept.
    """
    return _remembered_subject(der) if len(der) <= MAX_CERTIFICATE_BYTES else None


_remembered_subject: Final = lru_cache(maxsize=_SUBJECTS_KEPT)(subject_of)
