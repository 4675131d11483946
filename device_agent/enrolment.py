"""Builds an enrolment request: whose TPM this is, which key is new, and in what state the host is.

Everything answers the same nonce: the quote through its qualifying data, and both certifications
through theirs, so that no part can be taken from another enrolment. A result that is shown in place
of evidence was made for another nonce: what ties it to this enrolment is the attestation key, which
it names and which certifies the new key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from attestation.evidence import certify_qualifying_data
from attestation.wire.enrolment_codec import (
    ActivationRequest,
    CloudStatement,
    EkStatement,
    EnrolmentRequest,
    encode_activation,
    encode_enrolment,
)
from device_agent.collector import Sources, collect
from device_agent.errors import TpmKeyMissing
from device_agent.ports import ActivationReply, ChallengeReply, Endorsement, KeyRole, Tpm

CSR_COMMON_NAME: Final = "device"
"""The verifier names the device by its IDevID; what the request says here is not believed."""


def build_activation(tpm: Tpm) -> bytes:
    """Build what asks for a challenge by endorsement key; makes the IAK if it is not there.

    Raises:
        TpmError: If the TPM fails, or its endorsement key is not that of its certificate.
        SourceUnreadable: If an EK certificate cannot be read.
    """
    tpm.create_iak()
    told = tpm.endorsement()
    return encode_activation(
        ActivationRequest(
            ek_public=told.public,
            ek_chain=_ek_chain(told),
            iak_public=tpm.public_area(KeyRole.IAK),
        )
    )


def answer_activation(tpm: Tpm, begun: ActivationReply) -> EkStatement:
    """Have the TPM answer a challenge by endorsement key.

    Raises:
        TpmRefused: If the challenge is not for this TPM's keys.
        TpmError: If the TPM fails.
    """
    told = tpm.endorsement()
    return EkStatement(
        public=told.public,
        chain=_ek_chain(told),
        activation=begun.activation,
        answer=tpm.activate_credential(begun.credential, begun.seed),
    )


def _ek_chain(told: Endorsement) -> tuple[bytes, ...]:
    return () if told.certificate is None else (told.certificate, *told.chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a request shows of the device's identity.

    Attributes:
        idevid: Whether the manufacturer's certificates.
        ek: The endorsement key and its answer; None where it is not asked for.
        cloud: The cloud's word.
    """

    idevid: bool = True
    ek: EkStatement | None = None
    cloud: CloudStatement = field(default_factory=CloudStatement)


BY_IDEVID: Final = Shown()


def build_enrolment(
    sources: Sources,
    challenge: ChallengeReply,
    *,
    intermediates: Sequence[bytes] = (),
    slot: KeyRole = KeyRole.LDEVID,
    shown: Shown = BY_IDEVID,
) -> bytes:
    """Build one enrolment request for a challenge; makes the LDevID key if it is not there.

    Args:
        sources: TPM, firmware log and host facts.
        challenge: The enrolment challenge.
        intermediates: DER certificates between the manufacturer's leaf and root, if any.
        slot: Where the LDevID key is.
        shown: What is shown of the device's identity.

    Returns:
        The encoded request.

    Raises:
        TpmKeyMissing: If IDevID or IAK, or a certificate of theirs, is wanted and not in the TPM.
        TpmError: If the TPM fails.
        SourceUnreadable: If the firmware log, or the result to be shown, cannot be read.
    """
    tpm = sources.tpm
    result = sources.result.read() if sources.result is not None else ""
    idevid_chain: tuple[bytes, ...] = ()
    iak_chain: tuple[bytes, ...] = ()
    if shown.idevid:
        idevid_chain = (require_certificate(tpm, KeyRole.IDEVID), *intermediates)
        iak_chain = (require_certificate(tpm, KeyRole.IAK), *intermediates)
    tpm.create_ldevid(slot)
    return encode_enrolment(
        EnrolmentRequest(
            idevid_chain=idevid_chain,
            iak_chain=iak_chain,
            idevid_public=tpm.public_area(KeyRole.IDEVID) if shown.idevid else b"",
            iak_public=tpm.public_area(KeyRole.IAK),
            ldevid_public=tpm.public_area(slot),
            idevid_certify=tpm.certify(
                KeyRole.IDEVID, certify_qualifying_data(challenge.nonce, KeyRole.IDEVID.value)
            )
            if shown.idevid
            else None,
            ldevid_certify=tpm.certify(
                slot, certify_qualifying_data(challenge.nonce, KeyRole.LDEVID.value)
            ),
            csr=tpm.csr(slot, CSR_COMMON_NAME, ()),
            evidence=b"" if result else _evidence(sources, challenge),
            nonce=challenge.nonce if result else b"",
            result=result,
            ek=shown.ek,
            cloud=shown.cloud,
        )
    )


def plain_request(tpm: Tpm, slot: KeyRole) -> EnrolmentRequest:
    """Return a request that shows nothing but the LDevID key in a slot.

    Raises:
        TpmError: If the TPM fails.
    """
    return EnrolmentRequest(
        idevid_chain=(),
        iak_chain=(),
        idevid_public=b"",
        iak_public=b"",
        ldevid_public=tpm.public_area(slot),
        idevid_certify=None,
        ldevid_certify=None,
        csr=b"",
        evidence=b"",
    )


def _evidence(sources: Sources, challenge: ChallengeReply) -> bytes:
    return collect(sources, nonce=challenge.nonce, selections=challenge.selections, whole_log=True)


def require_certificate(tpm: Tpm, role: KeyRole) -> bytes:
    """Return the manufacturer's certificate of a key, or say what to do about its absence.

    Raises:
        TpmKeyMissing: If the key or its certificate is not in the TPM.
    """
    if not tpm.has_key(role):
        raise TpmKeyMissing(
            f"this TPM holds no {role.value} key; run 'device-agent factory request' or correct "
            f"tpm.{role.value}_handle"
        )
    certificate = tpm.certificate(role)
    if certificate is None:
        raise TpmKeyMissing(
            f"this TPM holds no certificate for its {role.value} key; run 'device-agent factory "
            f"install' or correct tpm.{role.value}_certificate_nv"
        )
    return certificate
