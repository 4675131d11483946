"""What an owner asks of a device that wants to enrol, and a device whose every proof held."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from attestation.errors import IdentityMismatch
from attestation.evidence import Evidence
from attestation.identity import DeviceId, KeyName
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.issuance.certificate_profile import LDEVID, CertificateProfile
from verifier.issuance.enrolment_identity import Identity
from verifier.issuance.enrolment_policy import DEFAULT_POLICY, DeviceClass, EnrolmentPolicy
from verifier.issuance.passport import ResultSigners, ShownResult
from verifier.issuance.profiles import Issuer, PublicKey, ldevid_certificate
from verifier.issuance.trust_sources import TrustSources
from verifier.reference_values.model import ReferenceLibrary


class Activations(Protocol):
    """Whoever keeps the activations that were begun."""

    def redeem(
        self,
        activation: bytes,
        answer: bytes,
        *,
        ek_sha256: bytes,
        ak_name: KeyName,
        subject: str,
        at: datetime,
    ) -> KeyName:
        """Return the Name of the attestation key, now proven to live beside the EK.

        Args:
            activation: Its id.
            answer: What the TPM gave back.
            ek_sha256: SHA-256 of the EK's SubjectPublicKeyInfo.
            ak_name: The attestation key of the request.
            subject: Whose request it is.
            at: The moment of judgement (aware).

        Raises:
            VerificationError: ``credential-activation-spent``, ``credential-activation-failed``,
                ``ak-not-resident``, ``ek-mismatch``.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentTerms:
    """What the owner asks of a device that wants to enrol.

    Attributes:
        anchors: The manufacturers trusted.
        reference: The reference sets that may apply.
        policy: The appraisal policy.
        enrolment: The enrolment policy.
        sources: What its expressions are judged by.
        label: The EST label that the request came by; empty without one.
        result_signers: Whose results may be shown.
    """

    anchors: TrustAnchors
    reference: ReferenceLibrary
    policy: AppraisalPolicy
    enrolment: EnrolmentPolicy = DEFAULT_POLICY
    sources: TrustSources = field(default_factory=TrustSources)
    label: str = ""
    result_signers: ResultSigners = field(default_factory=ResultSigners)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedEnrolment:
    """A device whose every proof held.

    Attributes:
        enrolment: What to remember of it; clock and nonce of its evidence are in it, if it sent
            any.
        hardware_serial: Its serial.
        idevid_sha256: SHA-256 of the IDevID certificate's DER; of its EK if it has none.
        ldevid_key: The key to certify.
        ldevid_spki_sha256: SHA-256 of its SubjectPublicKeyInfo.
        device_class: The class that it was held against.
        identities: What only one device may be.
        proofs: Names of everything that was shown and held.
        nonce: The challenge that was answered.
        result: The appraisal's result, to be recorded like any other; None without evidence.
        evidence: The evidence, whose log may be kept.
        shown_result: A result that was shown; whether it still stands:
            :func:`verifier.issuance.passport.require_standing`.
    """

    enrolment: Enrolment
    hardware_serial: str
    idevid_sha256: bytes
    ldevid_key: PublicKey
    ldevid_spki_sha256: bytes
    device_class: DeviceClass
    identities: tuple[Identity, ...]
    proofs: tuple[str, ...]
    nonce: bytes = field(repr=False)
    result: AttestationResult | None
    evidence: Evidence | None
    shown_result: ShownResult | None

    @property
    def device(self) -> DeviceId:
        """The id that the device gets."""
        return self.enrolment.device


def enrolment_subject(certificate: bytes) -> str:
    """Return the subject to issue an enrolment nonce to: whoever has this certificate's key.

    Args:
        certificate: DER of the TLS client certificate.
    """
    return f"enrol/{hashlib.sha256(certificate).hexdigest()}"


def require_id_free(accepted: AcceptedEnrolment, existing: Enrolment | None) -> None:
    """Check that the device id is free, or is this very device's, not revoked.

    Args:
        accepted: From :func:`verifier.issuance.enrol.judge_enrolment`.
        existing: What is remembered under the same id, if anything is.

    Raises:
        IdentityMismatch: ``device-id-taken`` if another attestation key holds the id,
            ``device-revoked`` if the device was revoked.
    """
    if existing is None:
        return
    if existing.ak_name != accepted.enrolment.ak_name:
        raise IdentityMismatch(
            RefusalCode.DEVICE_ID_TAKEN,
            f"device id {accepted.device} belongs to a device with another attestation key. "
            "A replaced TPM is another device: its maker must give it a serial number of its own",
        )
    if existing.revoked:
        raise IdentityMismatch(
            RefusalCode.DEVICE_REVOKED,
            f"device {accepted.device} was revoked and stays so; no command takes that back",
        )


def issue_ldevid(
    accepted: AcceptedEnrolment,
    issuer: Issuer,
    *,
    trust_domain: str,
    serial: int,
    at: datetime,
    lifetime: timedelta,
    profile: CertificateProfile = LDEVID,
) -> x509.Certificate:
    """Sign the LDevID certificate of an accepted device; nothing in its CSR but the key counts.

    Args:
        accepted: From :func:`verifier.issuance.enrol.judge_enrolment`.
        issuer: The owner's CA.
        trust_domain: Of the device's URI.
        serial: From :func:`verifier.issuance.profiles.certificate_serial`.
        at: Now (aware).
        lifetime: How long it lasts.
        profile: What it may be used for.
    """
    return ldevid_certificate(
        accepted.device,
        accepted.hardware_serial,
        accepted.ldevid_key,
        issuer,
        trust_domain=trust_domain,
        serial=serial,
        at=at,
        lifetime=lifetime,
        profile=profile,
    )
