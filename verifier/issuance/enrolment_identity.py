"""Who a device says it is: chains, endorsement key and public areas held against each other.

A device comes with IDevID and IAK certificates, with an endorsement key, or as one that is known
already and connects with the certificate that we gave it. What is found here is claimed, and
vouched for; that it is at the other end is proven in :mod:`verifier.issuance.enrol`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509

from attestation.certificates import device_serial, hardware_module, spki_der
from attestation.errors import IdentityMismatch, MalformedInput
from attestation.identity import DeviceId, device_id
from attestation.refusals import RefusalCode
from attestation.tpm.public import (
    TpmPublic,
    parse_public,
    require_attestation_key,
    require_device_key,
)
from attestation.wire.enrolment_codec import EnrolmentRequest
from verifier.appraisal.enrolment import Enrolment
from verifier.endorsement.trust_anchors import ChainProfile, Endorsement, TrustAnchors
from verifier.issuance.endorsement_key import JudgedEk

IDEVID_KEY: Final = "idevid-key"
"""Kind of identity: SHA-256 of the IDevID key's SubjectPublicKeyInfo; never an agent's key."""

_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9]+")


class Identity(NamedTuple):
    """Something that only one device may be.

    Attributes:
        kind: ``idevid``, ``idevid-key``, ``iak``, ``ek``, ``aws-instance``, ``azure-resource``.
        value: SHA-256 of it.
    """

    kind: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """A device that enrolled before and connects with what it was given then.

    Attributes:
        enrolment: What is remembered of it.
        hardware_serial: Its serial.
        idevid_sha256: SHA-256 of its IDevID certificate; of its EK if it has none.
    """

    enrolment: Enrolment
    hardware_serial: str
    idevid_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedIdentity:
    """What certificates and public areas say, after they were held against each other.

    Attributes:
        device: The id that the device gets, or has.
        serial: Its serial.
        iak: Its attestation key.
        ldevid: The key to certify.
        idevid: Its IDevID key; None where it did not come with one.
        idevid_sha256: SHA-256 of its IDevID certificate; of its EK if it has none.
        anchor_sha256: Who endorsed it.
        endorsed_from: Start of the endorsement (aware).
        endorsed_until: End of it (aware).
        certificate_ids: What revocation lists call the certificates that endorsed it.
        identities: What only one device may be.
    """

    device: DeviceId
    serial: str
    iak: TpmPublic
    ldevid: TpmPublic
    idevid: TpmPublic | None
    idevid_sha256: bytes
    anchor_sha256: bytes
    endorsed_from: datetime
    endorsed_until: datetime
    certificate_ids: frozenset[bytes]
    identities: tuple[Identity, ...]


def device_id_from_serial(serial: str) -> DeviceId:
    """Return the device id for a manufacturer's serial: lower case, other signs become one dash.

    Raises:
        MalformedInput: ``device-id-invalid`` if nothing usable remains, or it is too long.
    """
    return device_id(_NOT_ALLOWED.sub("-", serial.lower()).strip("-"))


def identify(
    request: EnrolmentRequest,
    *,
    presented: bytes | None,
    known: KnownDevice | None,
    ek: JudgedEk | None,
    anchors: TrustAnchors,
    at: datetime,
) -> ClaimedIdentity | None:
    """Say who a device claims to be.

    Args:
        request: As decoded.
        presented: DER of the TLS client certificate; None without one.
        known: The device whose certificate of ours that is; None if it is none of ours.
        ek: The endorsement key of the request, if the policy rests on one.
        anchors: The manufacturers trusted.
        at: The moment of judgement (aware).

    Returns:
        The identity; None if nothing in the request says who it is.

    Raises:
        VerificationError: If something shown does not hold, or speaks of another device.
        InputError: If something is malformed.
    """
    if known is not None:
        return _again(request, known, anchors, at)
    leaf = request.idevid_chain[0] if request.idevid_chain else b""
    if presented is not None and not hmac.compare_digest(presented, leaf):
        raise IdentityMismatch(
            RefusalCode.CLIENT_CERTIFICATE_WRONG,
            "the connection was made with another certificate than the IDevID in the request",
            structure="IDevID certificate",
        )
    if presented is None and leaf:
        raise IdentityMismatch(
            RefusalCode.CLIENT_CERTIFICATE_WRONG,
            "the request has an IDevID certificate, the connection was made without one",
            structure="IDevID certificate",
        )
    if leaf:
        return _manufactured(request, anchors, at)
    return _endorsed(request, ek) if ek is not None else None


def _manufactured(
    request: EnrolmentRequest, anchors: TrustAnchors, at: datetime
) -> ClaimedIdentity:
    idevid_endorsed = anchors.validate(request.idevid_chain, at, ChainProfile.IDEVID)
    iak_endorsed = anchors.validate(request.iak_chain, at, ChainProfile.IAK)
    serial = _require_one_device(idevid_endorsed, iak_endorsed)
    iak, ldevid = device_keys(request)
    idevid = _idevid_key(request, iak, idevid_endorsed.leaf, iak_endorsed.leaf)
    digest = hashlib.sha256(request.idevid_chain[0]).digest()
    return ClaimedIdentity(
        device=device_id_from_serial(serial),
        serial=serial,
        iak=iak,
        idevid=idevid,
        ldevid=ldevid,
        idevid_sha256=digest,
        anchor_sha256=iak_endorsed.anchor_sha256,
        endorsed_from=max(iak_endorsed.not_before, idevid_endorsed.not_before),
        endorsed_until=min(iak_endorsed.not_after, idevid_endorsed.not_after),
        certificate_ids=iak_endorsed.certificate_ids | idevid_endorsed.certificate_ids,
        identities=(
            Identity("idevid", digest),
            Identity(IDEVID_KEY, hashlib.sha256(idevid.spki_der).digest()),
            iak_identity(iak),
        ),
    )


def _endorsed(request: EnrolmentRequest, ek: JudgedEk) -> ClaimedIdentity:
    iak, ldevid = device_keys(request)
    return ClaimedIdentity(
        device=ek.device,
        serial=str(ek.device),
        iak=iak,
        idevid=None,
        ldevid=ldevid,
        idevid_sha256=ek.sha256,
        anchor_sha256=ek.anchor_sha256,
        endorsed_from=ek.endorsed_from,
        endorsed_until=ek.endorsed_until,
        certificate_ids=frozenset(),
        identities=(iak_identity(iak),),
    )


def _again(
    request: EnrolmentRequest, known: KnownDevice, anchors: TrustAnchors, at: datetime
) -> ClaimedIdentity:
    """Take a known device's word for what it has proven before; its keys are looked at again."""
    enrolment = known.enrolment
    if request.idevid_chain:
        shown = _manufactured(request, anchors, at)
        if shown.device != enrolment.device:
            raise IdentityMismatch(
                RefusalCode.CLIENT_CERTIFICATE_WRONG,
                "the connection was made with another device's certificate than the request names",
                structure="client certificate",
            )
        return shown
    iak, ldevid = device_keys(request)
    if iak.name != enrolment.ak_name:
        raise IdentityMismatch(
            RefusalCode.AK_UNKNOWN,
            "the attestation key is not the one that enrolled; enrol with the proofs of a new "
            "device",
            structure="TPMT_PUBLIC",
        )
    return ClaimedIdentity(
        device=enrolment.device,
        serial=known.hardware_serial,
        iak=iak,
        idevid=None,
        ldevid=ldevid,
        idevid_sha256=known.idevid_sha256,
        anchor_sha256=enrolment.anchor_sha256,
        endorsed_from=enrolment.endorsed_from,
        endorsed_until=enrolment.endorsed_until,
        certificate_ids=enrolment.certificate_ids,
        identities=(iak_identity(iak),),
    )


def device_keys(request: EnrolmentRequest) -> tuple[TpmPublic, TpmPublic]:
    """Return IAK and LDevID key, each of the right kind.

    Raises:
        VerificationError: If one could leave its TPM or sign what it must not.
        InputError: If one is malformed.
    """
    iak, ldevid = parse_public(request.iak_public), parse_public(request.ldevid_public)
    require_attestation_key(iak)
    require_device_key(ldevid)
    return iak, ldevid


def iak_identity(iak: TpmPublic) -> Identity:
    """Return an attestation key as something that only one device may be."""
    return Identity("iak", hashlib.sha256(iak.name).digest())


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


def _idevid_key(
    request: EnrolmentRequest,
    iak: TpmPublic,
    idevid_leaf: x509.Certificate,
    iak_leaf: x509.Certificate,
) -> TpmPublic:
    """Return the IDevID key; it and the IAK must be certified as presented."""
    if not request.idevid_public:
        raise MalformedInput(
            RefusalCode.REQUEST_INVALID,
            "'idevid-public' is missing beside the IDevID certificate",
            structure="enrolment request",
        )
    idevid = parse_public(request.idevid_public)
    for name, public, leaf in (("IAK", iak, iak_leaf), ("IDevID", idevid, idevid_leaf)):
        if public.spki_der != spki_der(leaf):
            raise IdentityMismatch(
                RefusalCode.CERTIFICATE_KEY_MISMATCH,
                f"the {name} public area holds another key than the {name} certificate",
                structure="TPMT_PUBLIC",
            )
    require_device_key(idevid)
    return idevid


def _two_devices(reason: str) -> IdentityMismatch:
    return IdentityMismatch(
        RefusalCode.IDEVID_IAK_MISMATCH,
        f"IDevID and IAK certificates do not speak of one device: {reason}",
        structure="IAK certificate",
    )
