"""Judge an enrolment: every proof that a device is who its manufacturer says, and holds the key.

The order is that of the argument. A request is accepted only if

1. the TLS connection was made with the very IDevID certificate in the request,
2. IDevID and IAK certificates lead to one trusted manufacturer and name one device,
3. the public areas are those certificates' keys, with attributes that keep them in a TPM,
4. the nonce is ours, issued to this IDevID,
5. the IAK certified IDevID and LDevID keys for this nonce: all three live in one TPM,
6. the CSR is signed by that LDevID key,
7. the evidence passes the same appraisal as ever after.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from attestation.certificates import device_serial, hardware_module, spki_der
from attestation.errors import (
    IdentityMismatch,
    MalformedInput,
    VerificationError,
)
from attestation.evidence import Evidence
from attestation.identity import DeviceId, device_id
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier
from attestation.tpm.public import (
    TpmPublic,
    parse_public,
    require_attestation_key,
    require_device_key,
)
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import Challenge, ForSubject, mark_seen
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import ChainProfile, Endorsement, TrustAnchors
from verifier.issuance.certification import require_certified
from verifier.issuance.csr import require_csr_by
from verifier.issuance.profiles import Issuer, PublicKey, ldevid_certificate
from verifier.reference_values.model import ReferenceLibrary

_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentTerms:
    """What the owner asks of a device that wants to enrol.

    Attributes:
        anchors: The manufacturers trusted.
        reference: The reference sets that may apply.
        policy: The appraisal policy.
        accept: The worst status that is still let in. ``WARNING`` by default, so that the first
            device of a kind can enrol before its reference values are learnt.
        device_class: The class the device is put in.
    """

    anchors: TrustAnchors
    reference: ReferenceLibrary
    policy: AppraisalPolicy
    accept: TrustTier = TrustTier.WARNING
    device_class: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedEnrolment:
    """A device whose every proof held.

    Attributes:
        enrolment: What to remember of it; clock and nonce of this evidence are in it.
        hardware_serial: The manufacturer's serial number.
        idevid_sha256: SHA-256 of the IDevID certificate's DER.
        ldevid_key: The key to certify.
        ldevid_spki_sha256: SHA-256 of its SubjectPublicKeyInfo.
        result: The appraisal's result, to be recorded like any other.
        evidence: The evidence, whose log may be kept.
    """

    enrolment: Enrolment
    hardware_serial: str
    idevid_sha256: bytes
    ldevid_key: PublicKey
    ldevid_spki_sha256: bytes
    result: AttestationResult
    evidence: Evidence

    @property
    def device(self) -> DeviceId:
        """The id that the device gets."""
        return self.enrolment.device


def enrolment_subject(idevid_certificate: bytes) -> str:
    """Return the subject to issue an enrolment nonce to: this IDevID certificate, no other.

    Args:
        idevid_certificate: DER of the TLS client certificate.
    """
    return f"enrol/{hashlib.sha256(idevid_certificate).hexdigest()}"


def device_id_from_serial(serial: str) -> DeviceId:
    """Return the device id for a manufacturer's serial: lower case, other signs become one dash.

    Raises:
        MalformedInput: ``device-id-invalid`` if nothing usable remains, or it is too long.
    """
    return device_id(_NOT_ALLOWED.sub("-", serial.lower()).strip("-"))


def judge_enrolment(
    request: EnrolmentRequest,
    *,
    presented: bytes,
    challenge: Challenge,
    terms: EnrolmentTerms,
    at: datetime,
    replays: ReplayCache | None = None,
) -> AcceptedEnrolment:
    """Judge one enrolment request.

    Args:
        request: As decoded from the wire.
        presented: DER of the TLS client certificate of the connection.
        challenge: Who judges the nonce; it was issued to :func:`enrolment_subject`.
        terms: What the owner asks.
        at: The moment of judgement (aware).
        replays: Remembers replayed logs.

    Returns:
        The accepted enrolment. Whether its device id is free: :func:`require_id_free`.

    Raises:
        VerificationError: Of the first proof that does not hold, or ``evidence-not-acceptable``.
        InputError: If something in the request is malformed.
    """
    claimed = _identify(request, presented, terms.anchors, at)
    evidence = decode_evidence(request.evidence)
    for_us = ForSubject(challenge=challenge, subject=enrolment_subject(presented))
    for_us.open(evidence.nonce, "", at)
    _require_one_tpm(request, claimed, evidence.nonce)
    enrolment = Enrolment(
        device=device_id_from_serial(claimed.serial),
        ak_public=request.iak_public,
        ak_name=claimed.iak.name,
        anchor_sha256=claimed.anchor_sha256,
        endorsed_from=claimed.endorsed_from,
        endorsed_until=claimed.endorsed_until,
        certificate_ids=claimed.certificate_ids,
        device_class=terms.device_class,
    )
    result = appraise(
        evidence,
        challenge=for_us,
        enrolment=enrolment,
        anchors=terms.anchors,
        reference=terms.reference,
        policy=terms.policy,
        at=at,
        replays=replays,
    )
    return AcceptedEnrolment(
        enrolment=_require_acceptable(result, enrolment, terms.accept),
        hardware_serial=claimed.serial,
        idevid_sha256=hashlib.sha256(presented).digest(),
        ldevid_key=claimed.ldevid.key,
        ldevid_spki_sha256=hashlib.sha256(claimed.ldevid.spki_der).digest(),
        result=result,
        evidence=evidence,
    )


def require_id_free(accepted: AcceptedEnrolment, existing: Enrolment | None) -> None:
    """Check that the device id is free, or is this very device's, not revoked.

    Args:
        accepted: From :func:`judge_enrolment`.
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
) -> x509.Certificate:
    """Sign the LDevID certificate of an accepted device; nothing in its CSR but the key counts.

    Args:
        accepted: From :func:`judge_enrolment`.
        issuer: The owner's CA.
        trust_domain: Of the device's URI.
        serial: From :func:`verifier.issuance.profiles.certificate_serial`.
        at: Now (aware).
        lifetime: How long it lasts.
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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClaimedIdentity:
    """What certificates and public areas say, after they were held against each other."""

    serial: str
    iak: TpmPublic
    idevid: TpmPublic
    ldevid: TpmPublic
    anchor_sha256: bytes
    endorsed_from: datetime
    endorsed_until: datetime
    certificate_ids: frozenset[bytes]


def _identify(
    request: EnrolmentRequest, presented: bytes, anchors: TrustAnchors, at: datetime
) -> _ClaimedIdentity:
    """Proofs 1 to 3: connection, chains and public areas speak of one device."""
    leaf = request.idevid_chain[0] if request.idevid_chain else b""
    if not hmac.compare_digest(presented, leaf):
        raise IdentityMismatch(
            RefusalCode.CLIENT_CERTIFICATE_WRONG,
            "the connection was made with another certificate than the IDevID in the request",
            structure="IDevID certificate",
        )
    idevid_endorsed = anchors.validate(request.idevid_chain, at, ChainProfile.IDEVID)
    iak_endorsed = anchors.validate(request.iak_chain, at, ChainProfile.IAK)
    serial = _require_one_device(idevid_endorsed, iak_endorsed)
    iak, idevid, ldevid = _keys(request, idevid_endorsed.leaf, iak_endorsed.leaf)
    return _ClaimedIdentity(
        serial=serial,
        iak=iak,
        idevid=idevid,
        ldevid=ldevid,
        anchor_sha256=iak_endorsed.anchor_sha256,
        endorsed_from=max(iak_endorsed.not_before, idevid_endorsed.not_before),
        endorsed_until=min(iak_endorsed.not_after, idevid_endorsed.not_after),
        certificate_ids=iak_endorsed.certificate_ids | idevid_endorsed.certificate_ids,
    )


def _require_one_tpm(request: EnrolmentRequest, claimed: _ClaimedIdentity, nonce: bytes) -> None:
    """Proofs 5 and 6: the IAK certified both keys for this nonce; the LDevID key signed the CSR."""
    if request.idevid_certify is None or request.ldevid_certify is None:
        raise MalformedInput(
            RefusalCode.REQUEST_INVALID,
            "a certification of the IDevID or LDevID key is missing",
            structure="enrolment request",
        )
    require_certified(
        request.idevid_certify,
        claimed.iak,
        claimed.idevid,
        nonce=nonce,
        subject="idevid",
        other_key=RefusalCode.IDEVID_IAK_MISMATCH,
    )
    require_certified(
        request.ldevid_certify,
        claimed.iak,
        claimed.ldevid,
        nonce=nonce,
        subject="ldevid",
        other_key=RefusalCode.CERTIFY_MISMATCH,
    )
    require_csr_by(request.csr, claimed.ldevid)


def _require_one_device(idevid: Endorsement, iak: Endorsement) -> str:
    """Hold what the two certificates say of their device against each other; return its serial.

    Serial numbers are unique for one manufacturer only, so both must have one anchor.
    """
    serial = device_serial(idevid.leaf)
    if idevid.anchor_sha256 != iak.anchor_sha256:
        raise _two_devices("they come from two manufacturers")
    named = iak.leaf.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)
    modules = hardware_module(idevid.leaf), hardware_module(iak.leaf)
    if named and device_serial(iak.leaf) != serial:
        raise _two_devices("their subjects have two serial numbers")
    if None not in modules and modules[0] != modules[1]:
        raise _two_devices("they name two hardware modules")
    if not named and None in modules:
        raise _two_devices("nothing in the IAK certificate names the device")
    return serial


def _keys(
    request: EnrolmentRequest, idevid_leaf: x509.Certificate, iak_leaf: x509.Certificate
) -> tuple[TpmPublic, TpmPublic, TpmPublic]:
    """Return IAK, IDevID and LDevID keys, each of the right kind and certified as presented."""
    iak = parse_public(request.iak_public)
    idevid = parse_public(request.idevid_public)
    ldevid = parse_public(request.ldevid_public)
    for name, public, leaf in (("IAK", iak, iak_leaf), ("IDevID", idevid, idevid_leaf)):
        if public.spki_der != spki_der(leaf):
            raise IdentityMismatch(
                RefusalCode.CERTIFICATE_KEY_MISMATCH,
                f"the {name} public area holds another key than the {name} certificate",
                structure="TPMT_PUBLIC",
            )
    require_attestation_key(iak)
    require_device_key(idevid)
    require_device_key(ldevid)
    return iak, idevid, ldevid


def _require_acceptable(
    result: AttestationResult, enrolment: Enrolment, accept: TrustTier
) -> Enrolment:
    """Refuse evidence that failed a proof, or is worse than the owner lets in."""
    if result.clock is None or result.status > accept:
        raise VerificationError(
            RefusalCode.EVIDENCE_NOT_ACCEPTABLE,
            f"the evidence is {result.status.label}; at worst {accept.label} may enrol. "
            + "; ".join(dict.fromkeys(result.reasons)),
            structure="evidence",
        )
    return enrolment.seen(mark_seen(result.clock, result.nonce), result.progress)


def _two_devices(reason: str) -> IdentityMismatch:
    return IdentityMismatch(
        RefusalCode.IDEVID_IAK_MISMATCH,
        f"IDevID and IAK certificates do not speak of one device: {reason}",
        structure="IAK certificate",
    )
