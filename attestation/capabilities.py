"""Capabilities of AI agents: words in one canonical order, and where and how an agent is met.

A capability is a scope-token (RFC 6749, 3.3): visible ASCII without blank, quote and backslash.
Words are compared whole; there are no wildcards. A list is canonical if its words ascend by code
point and none repeats: one set has one writing, in a request, a certificate and a token alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Final

from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import (
    MAX_CAPABILITIES,
    MAX_CAPABILITY_CHARS,
    MAX_LOCATOR_CHARS,
    MAX_VALIDATION_METHODS,
)
from attestation.refusals import RefusalCode

_WORD: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
_LOCATOR: Final = re.compile(r"[a-z][a-z0-9+.-]*:[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")
"""An absolute URI (RFC 3986, 4.3), a fragment allowed; its parts are for whoever follows it."""

CAPABILITIES: Final = "capabilities"
VALIDATION_METHODS: Final = "validation methods"


def canonical(words: Iterable[str], *, kind: str = CAPABILITIES) -> tuple[str, ...]:
    """Return words sorted and each once.

    Args:
        words: In any order.
        kind: :data:`CAPABILITIES` or :data:`VALIDATION_METHODS`.

    Raises:
        MalformedInput: ``capability-invalid`` for a word of another form.
        LimitExceeded: If there are too many.
    """
    found = tuple(sorted(set(words)))
    require_canonical(found, kind=kind)
    return found


def require_canonical(words: Sequence[str], *, kind: str = CAPABILITIES) -> tuple[str, ...]:
    """Return words that are in canonical order already.

    Raises:
        MalformedInput: ``capability-invalid`` if they are not, or a word is of another form.
        LimitExceeded: If there are too many.
    """
    limit = MAX_CAPABILITIES if kind == CAPABILITIES else MAX_VALIDATION_METHODS
    if len(words) > limit:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{len(words)} {kind}, at most {limit} are accepted",
            structure=kind,
        )
    for word in words:
        if len(word) > MAX_CAPABILITY_CHARS or not _WORD.fullmatch(word):
            raise _invalid(
                f"{word[:60]!a} is not 1 to {MAX_CAPABILITY_CHARS} visible ASCII characters "
                "without quotes and backslashes",
                kind,
            )
    if any(one >= other for one, other in pairwise(words)):
        raise _invalid("they are not sorted, or one is there twice", kind)
    return tuple(words)


def beyond(asked: Iterable[str], *allowed: Collection[str]) -> tuple[str, ...]:
    """Return what is asked and not in every one of ``allowed``, in the order asked."""
    return tuple(word for word in asked if any(word not in one for one in allowed))


def require_locator(text: str) -> str:
    """Return where an agent is reached, if it is an absolute URI in ASCII.

    Raises:
        MalformedInput: ``capability-invalid`` if it is not.
        LimitExceeded: If it is too long.
    """
    if len(text) > MAX_LOCATOR_CHARS:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(text)} characters, at most {MAX_LOCATOR_CHARS} are accepted",
            structure="locator",
        )
    if not _LOCATOR.fullmatch(text):
        raise _invalid(f"{text[:60]!a} is not an absolute URI in ASCII", "locator")
    return text


def _invalid(reason: str, kind: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CAPABILITY_INVALID, reason, structure=kind)
