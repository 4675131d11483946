"""Step 2, binding: the key that signed belongs to this device, and someone we trust still says so.

The manufacturer's chain was proven at enrolment (``verifier.issuance``); here we hold the moment
of judgement against what was proven then: same key Name, same anchor still trusted, inside the
endorsement's validity, not revoked.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from attestation.errors import IdentityMismatch, UntrustedEndorsement
from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.signature import AuthenticQuote
from verifier.endorsement.trust_anchors import TrustAnchors, require_not_revoked


class BoundQuote(NamedTuple):
    """An authentic quote whose key is bound to one endorsed device.

    Attributes:
        authentic: The quote.
        device: The device that the key belongs to.
    """

    authentic: AuthenticQuote
    device: DeviceId


def bind(
    authentic: AuthenticQuote, enrolment: Enrolment, anchors: TrustAnchors, at: datetime
) -> BoundQuote:
    """Prove that the quote's key is the enrolled device's and still endorsed at ``at``.

    Args:
        authentic: From step 1.
        enrolment: What was accepted at enrolment.
        anchors: The manufacturers trusted now.
        at: The moment of judgement (aware).

    Raises:
        IdentityMismatch: If the key is not the one that was certified, or the device is revoked.
        UntrustedEndorsement: If the anchor is no longer trusted, a certificate was revoked or the
            endorsement is out of time.
    """
    if authentic.ak.name != enrolment.ak_name:
        raise IdentityMismatch(
            RefusalCode.AK_UNKNOWN,
            "the attestation key's Name is not the one that was certified at enrolment; "
            "enrol the device again",
            structure="TPMT_PUBLIC",
        )
    if enrolment.revoked:
        raise IdentityMismatch(
            RefusalCode.DEVICE_REVOKED,
            f"device {enrolment.device} was revoked; its evidence is no longer accepted",
        )
    if enrolment.anchor_sha256 not in anchors:
        raise UntrustedEndorsement(
            RefusalCode.CERTIFICATE_UNTRUSTED,
            f"the manufacturer that endorsed {enrolment.device} is no longer among the trust "
            "anchors; add it again or retire the device",
            structure="IAK certificate",
        )
    require_not_revoked(enrolment.certificate_ids, anchors, "IDevID or IAK")
    if at > enrolment.endorsed_until:
        raise UntrustedEndorsement(
            RefusalCode.CERTIFICATE_EXPIRED,
            f"the manufacturer's endorsement ended on {enrolment.endorsed_until.isoformat()}",
            structure="IAK certificate",
        )
    if at < enrolment.endorsed_from:
        raise UntrustedEndorsement(
            RefusalCode.CERTIFICATE_NOT_YET_VALID,
            f"the manufacturer's endorsement begins on {enrolment.endorsed_from.isoformat()}; "
            "check the verifier's clock",
            structure="IAK certificate",
        )
    return BoundQuote(authentic=authentic, device=enrolment.device)
