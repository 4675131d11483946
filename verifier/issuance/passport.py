"""A result shown as a proof: the passport model (RFC 9334, 5.1).

Verifier and credential authority may be two. A result counts if we signed it, or another verifier
that the owner trusts; only *affirming* is good enough, and only the device that it is about may
show it, with the attestation key that was appraised. Of our own results we know the newest, of
another verifier's we know only when they end: :func:`require_standing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from attestation.errors import VerificationError
from attestation.identity import DeviceId, KeyName
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.ear import Ear, key_id_text, verify_ear_jwt
from verifier.appraisal.enrolment import Enrolment

_STRUCTURE: Final = "EAR"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSigners:
    """Whose results are believed.

    Attributes:
        ours: Our own JWK set, ``{"keys": […]}``.
        others: Keys of other verifiers by ``kid``; from
            :func:`verifier.issuance.result_keys.read_result_keys`.
    """

    ours: Mapping[str, object] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def own_ids(self) -> frozenset[str]:
        """The ``kid`` of each key of ours."""
        return frozenset(str(key["kid"]) for key in self._own_keys)

    @property
    def key_set(self) -> Mapping[str, object]:
        """All keys as one JWK set; a ``kid`` of ours is ours, whoever else claims it."""
        own = self.own_ids
        return {"keys": [*self._own_keys, *(k for kid, k in self.others.items() if kid not in own)]}

    @property
    def _own_keys(self) -> tuple[Mapping[str, object], ...]:
        keys = self.ours.get("keys")
        return tuple(keys) if isinstance(keys, (list, tuple)) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownResult:
    """A result that may stand for the device that shows it.

    Attributes:
        ear: What it says.
        is_ours: Whether we signed it, and not another verifier.
    """

    ear: Ear
    is_ours: bool


def read_result(
    token: str, signers: ResultSigners, device: DeviceId, ak_name: KeyName, at: datetime
) -> ShownResult:
    """Prove that a result is believed, in time, affirming, and of this device and key.

    Args:
        token: The EAR as a JWT.
        signers: Whose results are believed.
        device: Who shows it.
        ak_name: Name of the attestation key in the request.
        at: The moment of judgement (aware).

    Raises:
        VerificationError: ``result-signature-invalid``, ``result-expired``,
            ``result-not-yet-valid`` or ``result-not-acceptable``.
        InputError: ``result-malformed``.
    """
    ear = verify_ear_jwt(token, signers.key_set, at=at)
    is_ours = ear.signed_by in signers.own_ids
    if ear.subject != device or set(ear.submods) != {device}:
        raise _not_acceptable("it is about another device")
    if ear.status is not TrustTier.AFFIRMING:
        raise _not_acceptable(f"it is {ear.status.label}, wanted affirming")
    if ear.key_id is None and not is_ours:
        raise _not_acceptable(
            "it is another verifier's and does not name the attestation key that was appraised "
            "(cnf.kid)"
        )
    if ear.key_id not in {None, key_id_text(ak_name)}:
        raise _not_acceptable("it is about another attestation key (cnf.kid)")
    return ShownResult(ear=ear, is_ours=is_ours)


def require_standing(
    shown: ShownResult,
    ak_name: KeyName,
    existing: Enrolment | None,
    newest: tuple[TrustTier, datetime] | None,
) -> None:
    """Prove that a shown result still stands for the device that shows it.

    One of ours must not have been followed by a worse one. One of another verifier's stands until
    it ends, unless we have found something worse since it was made.

    Args:
        shown: From :func:`read_result`.
        ak_name: Name of the attestation key in the request.
        existing: What is remembered of the device; None if nothing is.
        newest: Status and moment of its newest result of ours; None if there is none.

    Raises:
        VerificationError: ``result-not-acceptable``.
    """
    status, since = newest or (None, None)
    if shown.is_ours and (existing is None or existing.ak_name != ak_name):
        raise _not_acceptable("no device with this id and attestation key was appraised here")
    if status is TrustTier.AFFIRMING:
        return
    made = shown.ear.issued_at
    if shown.is_ours or (since is not None and since >= made):
        seen = "none" if status is None else status.label
        raise _not_acceptable(
            f"the device's newest result is {seen}, not the one of {made.isoformat()}"
        )


def _not_acceptable(reason: str) -> VerificationError:
    return VerificationError(
        RefusalCode.RESULT_NOT_ACCEPTABLE, f"the result shown: {reason}", structure=_STRUCTURE
    )
