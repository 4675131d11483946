"""Builds an enrolment request: whose TPM this is, which key is new, and in what state the host is.

Everything answers the same nonce: the quote through its qualifying data, and both certifications
through theirs, so that no part can be taken from another enrolment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attestation.evidence import certify_qualifying_data
from attestation.wire.enrolment_codec import EnrolmentRequest, encode_enrolment
from device_agent.collector import Sources, collect
from device_agent.errors import TpmKeyMissing
from device_agent.ports import ChallengeReply, KeyRole, Tpm

CSR_COMMON_NAME: Final = "device"
"""The verifier names the device by its IDevID; what the request says here is not believed."""


def build_enrolment(
    sources: Sources,
    challenge: ChallengeReply,
    *,
    intermediates: Sequence[bytes] = (),
    slot: KeyRole = KeyRole.LDEVID,
) -> bytes:
    """Build one enrolment request for a challenge; makes the LDevID key if it is not there.

    Args:
        sources: TPM, firmware log and host facts.
        challenge: The enrolment challenge.
        intermediates: DER certificates between the manufacturer's leaf and root, if any.
        slot: Where the LDevID key is.

    Returns:
        The encoded request.

    Raises:
        TpmKeyMissing: If IDevID or IAK, or a certificate of theirs, is not in the TPM.
        TpmError: If the TPM fails.
        SourceUnreadable: If the firmware log cannot be read.
    """
    tpm = sources.tpm
    idevid_chain = (require_certificate(tpm, KeyRole.IDEVID), *intermediates)
    iak_chain = (require_certificate(tpm, KeyRole.IAK), *intermediates)
    tpm.create_ldevid(slot)
    return encode_enrolment(
        EnrolmentRequest(
            idevid_chain=idevid_chain,
            iak_chain=iak_chain,
            idevid_public=tpm.public_area(KeyRole.IDEVID),
            iak_public=tpm.public_area(KeyRole.IAK),
            ldevid_public=tpm.public_area(slot),
            idevid_certify=tpm.certify(
                KeyRole.IDEVID, certify_qualifying_data(challenge.nonce, KeyRole.IDEVID.value)
            ),
            ldevid_certify=tpm.certify(
                slot, certify_qualifying_data(challenge.nonce, KeyRole.LDEVID.value)
            ),
            csr=tpm.csr(slot, CSR_COMMON_NAME, ()),
            evidence=collect(
                sources,
                nonce=challenge.nonce,
                selections=challenge.selections,
                whole_log=True,
            ),
        )
    )


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
