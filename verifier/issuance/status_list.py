"""Token status lists (draft-ietf-oauth-status-list): one bit per certificate and its tokens.

A certificate's number in the issuance log is its place: list ``number // 131 072``, bit
``number % 131 072``. So a URL names a range for good, and a list is 16 kB before it is compressed.
Bit 1 is *invalid*; a number that is no certificate's stays 0 and nobody refers to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from attestation.base64url import base64url_text

LIST_SIZE: Final = 131_072
"""Bits in one list."""

TOKEN_TYPE: Final = "statuslist+jwt"  # noqa: S105 - a media type, not a secret
MEDIA_TYPE: Final = f"application/{TOKEN_TYPE}"

TTL: Final = timedelta(seconds=5)
"""How long a list may be kept before it is asked for again."""

_BITS: Final = 1
_LEVEL: Final = 9


def place(number: int) -> tuple[int, int]:
    """Return (list, bit) of a certificate by its number in the issuance log."""
    return divmod(number, LIST_SIZE)


def bounds(chosen: int) -> tuple[int, int]:
    """Return the first and the last number of a list."""
    return chosen * LIST_SIZE, (chosen + 1) * LIST_SIZE - 1


def status_claims(
    chosen: int, revoked: Iterable[int], *, url: str, at: datetime, lifetime: timedelta
) -> dict[str, object]:
    """Return the claims of a list, to be signed with ``typ`` :data:`TOKEN_TYPE`.

    Args:
        chosen: The list.
        revoked: Numbers of revoked certificates; each within the list's bounds.
        url: Where the list is found; tokens name the same.
        at: Now (aware).
        lifetime: How long it may be believed.

    Raises:
        ValueError: For a number of another list.
    """
    first, last = bounds(chosen)
    octets = bytearray(LIST_SIZE // 8)
    for number in revoked:
        if not first <= number <= last:
            raise ValueError(f"number {number} is in another list than {chosen}")
        octet, bit = divmod(number - first, 8)
        octets[octet] |= 1 << bit
    return {
        "sub": url,
        "iat": int(at.timestamp()),
        "exp": int((at + lifetime).timestamp()),
        "ttl": int(TTL.total_seconds()),
        "status_list": {"bits": _BITS, "lst": base64url_text(zlib.compress(bytes(octets), _LEVEL))},
    }
