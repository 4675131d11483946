"""The issuance log: every certificate, revocation and act upon the authority, in a chain of hashes.

An entry's digest covers the digest before it, so no entry can be changed, left out, put in or moved
without every later digest changing. Whoever noted a digest elsewhere can tell from then on.

Digest of an entry::

    SHA-256( "device-attestation/issuance-log/v1" || 0x00 || digest of the entry before (32 bytes)
             || u64 number || u64 microseconds since 1970 || u16 length of kind || kind || text )

Numbers are big-endian; the first entry has number 1 and 32 zero bytes before it; text is canonical
JSON: sorted keys, no blanks, UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Final

from attestation.reader import pack

ORIGIN: Final = bytes(32)
"""What stands before the first entry."""

ISSUED: Final = "issued"
REVOKED: Final = "revoked"
DECOMMISSION: Final = "decommission"
"""An operator has said when a device or agent ends: ``device``, ``agent`` (empty for the device),
``ends`` (ISO 8601; null for never)."""

_DOMAIN: Final = b"device-attestation/issuance-log/v1\x00"


class ChainBroken(Exception):
    """An entry that does not follow from the one before.

    Attributes:
        number: The entry's number, or the one that was expected.
        reason: What was seen and what was wanted.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"entry {number}: {reason}")
        self.number = number
        self.reason = reason


def canonical(entry: Mapping[str, object]) -> str:
    """Return the one text of an entry."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def entry_digest(previous: bytes, number: int, at_us: int, kind: str, text: str) -> bytes:
    """Return the digest of an entry, by the formula above."""
    name = kind.encode()
    head = pack(">QQH", number, at_us, len(name))
    return hashlib.sha256(_DOMAIN + previous + head + name + text.encode()).digest()


class Chain:
    """Follows a log entry by entry.

    Args:
        number: The last entry already believed; 0 to begin at the first.
        head: Its digest.
    """

    def __init__(self, number: int = 0, head: bytes = ORIGIN) -> None:
        self.number = number
        self.head = head

    def follow(self, entries: Iterable[tuple[int, int, str, str, bytes, bytes]]) -> None:
        """Go on over (number, microseconds, kind, text, previous, digest) of each entry.

        Raises:
            ChainBroken: At the first entry that does not follow.
        """
        for number, at_us, kind, text, previous, digest in entries:
            expected = self.number + 1
            if number != expected:
                raise ChainBroken(expected, f"it is missing: entry {number} comes in its place")
            if previous != self.head:
                raise ChainBroken(number, "it names another entry before it than the one there")
            if entry_digest(previous, number, at_us, kind, text) != digest:
                raise ChainBroken(number, "its digest is not that of what it says")
            self.number, self.head = number, digest
