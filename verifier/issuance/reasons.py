"""Why a certificate was revoked (CRLReason, RFC 5280, 5.3.1)."""

from __future__ import annotations

from enum import IntEnum

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode


class Reason(IntEnum):
    """The reasons that we give.

    Left out are those of attribute authorities and of CAs, and the two of a hold: what we revoke
    stays revoked.
    """

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    PRIVILEGE_WITHDRAWN = 9

    @property
    def word(self) -> str:
        """The reason's name as RFC 5280 writes it."""
        first, *rest = self.name.lower().split("_")
        return first + "".join(part.capitalize() for part in rest)


def may_take_the_place(code: int, of: int) -> bool:
    """Say whether a certificate that was revoked for one reason may be said to be for another.

    Only ``keyCompromise`` says more than that a certificate is over: what its key signed before is
    in doubt too, the key is certified for nobody again, and its holder may not even attest with it
    (ADR 0009). It takes the place of any other of ours, and nothing takes its place; that of a CA's
    compromise stays too.
    """
    return code == Reason.KEY_COMPROMISE and of in set(Reason) - {Reason.KEY_COMPROMISE}


WORDS: dict[str, Reason] = {one.word: one for one in Reason}
"""Every reason by its name."""


def reason_word(code: int) -> str:
    """Return the name of a reason's number; the number itself if it is none of ours."""
    try:
        return Reason(code).word
    except ValueError:
        return str(code)


def parse_reason(text: str) -> Reason:
    """Return the reason of a name. Raises MalformedInput (``request-invalid``)."""
    found = {word.lower(): one for word, one in WORDS.items()}.get(text.lower())
    if found is None:
        raise MalformedInput(
            RefusalCode.REQUEST_INVALID,
            f"{text[:40]!r} is no reason; known are {', '.join(WORDS)}",
            structure="reason",
        )
    return found
