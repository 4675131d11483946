"""TPM2_Certify: the proof that a key lives in the same TPM as the attestation key."""

from __future__ import annotations

import hmac

from attestation.errors import IdentityMismatch, SignatureInvalid
from attestation.evidence import Quote, certify_qualifying_data
from attestation.refusals import RefusalCode
from attestation.tpm.attest import Attest, parse_attest
from attestation.tpm.public import TpmPublic
from attestation.tpm.signature import verify_attest

_STRUCTURE = "TPMS_CERTIFY_INFO"


def require_certified(
    certify: Quote,
    iak: TpmPublic,
    public: TpmPublic,
    *,
    nonce: bytes,
    subject: str,
    other_key: RefusalCode,
) -> Attest:
    """Check that ``iak`` certified the key ``public`` for this nonce (TPM 2.0 Part 3, 18.2).

    The Name is computed from the public area as submitted, attributes included, so a key with
    other attributes is another key.

    Args:
        certify: Attestation and signature.
        iak: The attestation key, already known to be one.
        public: The public area that must have been certified.
        nonce: The enrolment challenge.
        subject: ``idevid`` or ``ldevid``.
        other_key: Code for "another key was certified".

    Returns:
        What the TPM attested, now proven.

    Raises:
        SignatureInvalid: ``certify-signature-invalid``, or the quote codes for magic and type.
        IdentityMismatch: ``other_key``, or ``certify-mismatch`` for another nonce or purpose.
        InputError: If a structure is malformed.
    """
    attest = parse_attest(certify.attest)
    try:
        verify_attest(iak, attest.raw, certify.signature)
    except SignatureInvalid as error:
        raise SignatureInvalid(
            RefusalCode.CERTIFY_SIGNATURE_INVALID,
            f"certification of the {subject} key: {error.reason}",
            structure=error.structure,
        ) from error
    if attest.certified is None:
        raise IdentityMismatch(
            RefusalCode.CERTIFY_MISMATCH,
            f"what was sent as certification of the {subject} key certifies no key",
            structure=_STRUCTURE,
        )
    if not hmac.compare_digest(attest.extra, certify_qualifying_data(nonce, subject)):
        raise IdentityMismatch(
            RefusalCode.CERTIFY_MISMATCH,
            f"the certification of the {subject} key was made for another challenge or purpose",
            structure="TPMS_ATTEST",
        )
    if attest.certified.name != public.name:
        raise IdentityMismatch(
            other_key,
            f"the IAK certified another key than the {subject} key presented: they do not live "
            "in one TPM",
            structure=_STRUCTURE,
        )
    return attest
