"""A result of ours shown as a proof: the passport model (RFC 9334, 5.1).

Only our own signature counts, only *affirming* is good enough, and only the device that it is about
may show it. That its key is still the one that was appraised, and that nothing worse was found
since, is for whoever knows the device: :func:`require_newest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attestation.errors import VerificationError
from attestation.identity import DeviceId, KeyName
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.ear import Ear, verify_ear_jwt
from verifier.appraisal.enrolment import Enrolment

_STRUCTURE: Final = "EAR"


def read_result(token: str, keys: Mapping[str, object], device: DeviceId, at: datetime) -> Ear:
    """Prove that a result is ours, in time, affirming, and this device's.

    Args:
        token: The EAR as a JWT.
        keys: Our JWK set.
        device: Who shows it.
        at: The moment of judgement (aware).

    Raises:
        VerificationError: ``result-signature-invalid``, ``result-expired``,
            ``result-not-yet-valid`` or ``result-not-acceptable``.
        InputError: ``result-malformed``.
    """
    ear = verify_ear_jwt(token, keys, at=at)
    if ear.subject != device or set(ear.submods) != {device}:
        raise _not_acceptable("it is about another device")
    if ear.status is not TrustTier.AFFIRMING:
        raise _not_acceptable(f"it is {ear.status.label}, wanted affirming")
    return ear


def require_newest(
    ear: Ear, ak_name: KeyName, existing: Enrolment | None, newest: TrustTier | None
) -> None:
    """Prove that a shown result still stands for the device that shows it.

    Args:
        ear: From :func:`read_result`.
        ak_name: Name of the attestation key in the request.
        existing: What is remembered of the device; None if nothing is.
        newest: Status of its newest result; None if there is none.

    Raises:
        VerificationError: ``result-not-acceptable``.
    """
    if existing is None or existing.ak_name != ak_name:
        raise _not_acceptable("no device with this id and attestation key was appraised here")
    if newest is not TrustTier.AFFIRMING:
        seen = "none" if newest is None else newest.label
        raise _not_acceptable(
            f"the device's newest result is {seen}, not the one of {ear.issued_at.isoformat()}"
        )


def _not_acceptable(reason: str) -> VerificationError:
    return VerificationError(
        RefusalCode.RESULT_NOT_ACCEPTABLE, f"the result shown: {reason}", structure=_STRUCTURE
    )
