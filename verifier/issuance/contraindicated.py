"""Refusal of whoever sent evidence that is not good enough, and what it says of the device."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import VerificationError
from attestation.evidence import Evidence
from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier
from verifier.appraisal.freshness import Challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstDevice:
    """Authentic evidence that speaks against whoever quoted it.

    It proves something of a device only if that very device's enrolled attestation key signed it,
    for a nonce that is newer than all that it answered before: whoever records it judges it again
    by the device's own record (:mod:`verifier.services.contraindication`).

    Attributes:
        device: Who it is said to be.
        evidence: The evidence, with its firmware log.
        challenge: Who judges its nonce.
    """

    device: DeviceId
    evidence: Evidence
    challenge: Challenge


class Contraindicated(VerificationError):
    """``evidence-not-acceptable``, with evidence that was proven to be a TPM's and fresh.

    Attributes:
        against: What was proven.
    """

    def __init__(self, reason: str, against: AgainstDevice) -> None:
        self.against = against
        super().__init__(RefusalCode.EVIDENCE_NOT_ACCEPTABLE, reason, structure="evidence")


def evidence_refused(
    result: AttestationResult, worst: TrustTier, evidence: Evidence, challenge: Challenge
) -> VerificationError:
    """Return the refusal of evidence that failed a proof, or is worse than the owner lets in.

    Args:
        result: What was judged.
        worst: The worst status that is let in.
        evidence: What it was judged of.
        challenge: Who judges its nonce.

    Returns:
        ``evidence-not-acceptable``; :class:`Contraindicated` if the quote was proven fresh.
    """
    reason = (
        f"the evidence is {result.status.label}; at worst {worst.label} is let in. "
        + "; ".join(dict.fromkeys(result.reasons))
    )
    if result.clock is not None and result.status is TrustTier.CONTRAINDICATED:
        against = AgainstDevice(device=result.device, evidence=evidence, challenge=challenge)
        return Contraindicated(reason, against)
    return VerificationError(RefusalCode.EVIDENCE_NOT_ACCEPTABLE, reason, structure="evidence")
