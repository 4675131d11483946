"""Writes firmware logs, good and bad, for tests: the writing side of attestation.logs.tcg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attestation.algorithms import HashAlgorithm
from attestation.reader import pack

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
TWO_BANKS = ((4, 20), (11, 32))
NO_ACTION = 3
SEPARATOR = 4


def sha1_event(pcr: int, kind: int, content: bytes, digest: bytes | None = None) -> bytes:
    """One TCG_PCR_EVENT; its digest is that of the content unless given."""
    value = SHA1.digest(content) if digest is None else digest
    return pack("<II20sI", pcr, kind, value, len(content)) + content


def spec_id(banks: Sequence[tuple[int, int]] = TWO_BANKS, *, count: int | None = None) -> bytes:
    """The content of a TCG_EfiSpecIDEvent."""
    named = b"".join(pack("<HH", alg_id, size) for alg_id, size in banks)
    total = len(banks) if count is None else count
    return pack("<16sIBBBBI", b"Spec ID Event03\0", 0, 0, 2, 0, 2, total) + named + b"\0"


def header(banks: Sequence[tuple[int, int]] = TWO_BANKS) -> bytes:
    """The first event of a crypto-agile log."""
    return sha1_event(0, NO_ACTION, spec_id(banks), bytes(20))


def agile_event(
    pcr: int,
    kind: int,
    content: bytes,
    digests: Mapping[int, bytes] | None = None,
    *,
    count: int | None = None,
    size: int | None = None,
) -> bytes:
    """One TCG_PCR_EVENT2; digests are those of the content in two banks unless given."""
    values = digests or {4: SHA1.digest(content), 11: SHA256.digest(content)}
    return (
        pack("<III", pcr, kind, len(values) if count is None else count)
        + b"".join(pack("<H", alg_id) + digest for alg_id, digest in values.items())
        + pack("<I", len(content) if size is None else size)
        + content
    )


def startup_locality(locality: int, pcr: int = 0) -> bytes:
    """An EV_NO_ACTION event that states the startup locality."""
    content = b"StartupLocality\0" + bytes((locality,))
    return agile_event(pcr, NO_ACTION, content, {4: bytes(20), 11: bytes(32)})
