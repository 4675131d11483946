"""Whether the content of an event is what was measured: the only way a content becomes proof.

An event's type and content are not extended; only its digest is. Content is believed where its
hash *is* the digest that the replay used, or where a named quirk says exactly which part of it
was hashed and that part's hash is the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.logs.event_types import EventType
from attestation.logs.quirks import QuirkName
from attestation.uefi.guid import SHIM_LOCK
from attestation.uefi.variables import parse_variable

Hasher = Callable[[bytes], Any]

HASHERS: Final[dict[HashAlgorithm, Hasher]] = {
    HashAlgorithm.SHA1: partial(hashlib.sha1, usedforsecurity=False),
    HashAlgorithm.SHA256: hashlib.sha256,
    HashAlgorithm.SHA384: hashlib.sha384,
    HashAlgorithm.SHA512: hashlib.sha512,
}
"""The hash of each bank; faster than :meth:`HashAlgorithm.digest` for thousands of short inputs."""

WHOLE: Final = ""
"""What :func:`how_measured` says of a content that was hashed whole."""

SHIM_SURPLUS_BYTES: Final = 6
"""Bytes that old shim logs after its variable; it hashes all but the last."""

_VARIABLE_BOOT: Final = int(EventType.EFI_VARIABLE_BOOT)
_VARIABLE_AUTHORITY: Final = int(EventType.EFI_VARIABLE_AUTHORITY)


def how_measured(kind: int, content: bytes, digest: bytes, hasher: Hasher) -> str | None:
    """Tell how an event's content was measured.

    Args:
        kind: The event's TCG_EVENTTYPE.
        content: Its content, as logged.
        digest: Its digest in the bank of ``hasher``.
        hasher: From :data:`HASHERS`.

    Returns:
        :data:`WHOLE` if the digest is that of the content, the name of a quirk
        (:mod:`attestation.logs.quirks`) if it is that of the part which the quirk says, None if
        the content is not what was measured.
    """
    if hasher(content).digest() == digest:
        return WHOLE
    return how_measured_in_part(kind, content, digest, hasher)


def how_measured_in_part(kind: int, content: bytes, digest: bytes, hasher: Hasher) -> str | None:
    """Tell which quirk explains a content that was not hashed whole; None if none does.

    Args:
        kind: The event's TCG_EVENTTYPE.
        content: Its content, as logged.
        digest: Its digest in the bank of ``hasher``.
        hasher: From :data:`HASHERS`.
    """
    try:
        if kind == _VARIABLE_BOOT:
            if hasher(parse_variable(content).data).digest() == digest:
                return QuirkName.BOOT_VARIABLE_DATA_ONLY
        elif kind == _VARIABLE_AUTHORITY:
            variable = parse_variable(content, surplus=SHIM_SURPLUS_BYTES)
            if (
                variable.surplus == SHIM_SURPLUS_BYTES
                and variable.vendor == SHIM_LOCK
                and variable.name == "Shim"
                and hasher(content[:-1]).digest() == digest
            ):
                return QuirkName.SHIM_SURPLUS
    except InputError:
        return None
    return None
