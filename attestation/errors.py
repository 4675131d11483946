"""Errors of the shared vocabulary; each one carries a stable code and where it happened.

Tree::

    AttestationError
    ├── InputError              the bytes are not what they claim to be (HTTP 400 family)
    │   ├── MalformedInput      a structure that breaks its own standard
    │   ├── LimitExceeded       larger, deeper or more than we accept
    │   └── Unsupported         well formed, but an algorithm or version we do not take
    └── VerificationError       well formed, but a proof that does not hold (a device lies)
        ├── SignatureInvalid
        ├── NotFresh
        ├── ReplayMismatch
        ├── UntrustedEndorsement
        └── IdentityMismatch

Rules: inside a room we raise; at the bench (``verifier.appraisal.appraise``) a
``VerificationError`` is recorded as *contraindicated*. No message ever holds a nonce, a key or
a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from attestation.refusals import RefusalCode


class AttestationError(Exception):
    """Something about attestation input was refused.

    Attributes:
        code: Stable machine-readable code (:class:`attestation.refusals.RefusalCode`).
        reason: What was seen, what was wanted, in words a person can act on.
        structure: The structure being read or judged, e.g. ``TPMS_ATTEST``; may be empty.
        offset: Byte offset in the input, if one is known.
    """

    def __init__(
        self,
        code: RefusalCode,
        reason: str,
        *,
        structure: str = "",
        offset: int | None = None,
    ) -> None:
        self.code = code
        self.reason = reason
        self.structure = structure
        self.offset = offset
        super().__init__(self.describe())

    def told_of(self, origin: str) -> Self:
        """Return the same error whose reason begins with the name of what was read."""
        reason = f"{origin}: {self.reason}"
        return type(self)(self.code, reason, structure=self.structure, offset=self.offset)

    def describe(self) -> str:
        """Return one line for people: code, place, reason."""
        place = self.structure
        if self.offset is not None:
            place = f"{place} at byte {self.offset}".strip()
        return f"{self.code}: {place + ': ' if place else ''}{self.reason}"


class InputError(AttestationError):
    """The input is malformed, too large or not supported: nobody is accused of lying."""


class MalformedInput(InputError):
    """A structure breaks its own standard."""


class LimitExceeded(InputError):
    """Input is larger, deeper or more numerous than we accept."""


class Unsupported(InputError):
    """Well formed, but an algorithm, type or version we do not take."""


class VerificationError(AttestationError):
    """Well formed, but a proof does not hold."""


class SignatureInvalid(VerificationError):
    """A signature does not verify, or its key must not make such signatures."""


class NotFresh(VerificationError):
    """Nonce, clock, resetCount or restartCount show that this is not new."""


class ReplayMismatch(VerificationError):
    """A log does not reproduce the quoted PCR values, or contradicts itself."""


class UntrustedEndorsement(VerificationError):
    """A certificate does not chain to a trusted anchor at the time of judgement."""


class IdentityMismatch(VerificationError):
    """Two proofs that must speak of one device or key speak of two."""
