"""Step 1, signature: the quote is a TPM's own, made by this device's attestation key.

Refuses: another magic or type than a quote's, a key that may sign what it did not make, a scheme
the key does not have, a signature that does not verify. Promises nothing about time, PCRs or who
owns the key.
"""

from __future__ import annotations

from typing import NamedTuple

from attestation.algorithms import HashAlgorithm
from attestation.errors import SignatureInvalid
from attestation.evidence import Evidence
from attestation.refusals import RefusalCode
from attestation.tpm.attest import Attest, QuotedPcrs, parse_attest
from attestation.tpm.constants import TPM_ST_ATTEST_QUOTE
from attestation.tpm.public import TpmPublic, require_attestation_key
from attestation.tpm.signature import verify_attest


class AuthenticQuote(NamedTuple):
    """A quote that verified under ``ak``.

    Attributes:
        evidence: The message it came in.
        attest: The signed structure, parsed from the very bytes that were signed.
        quoted: Its quote part.
        scheme_hash: The signing scheme's hash; pcrDigest uses it (TPM 2.0 Part 3, 18.4).
        ak: The key that made it.
    """

    evidence: Evidence
    attest: Attest
    quoted: QuotedPcrs
    scheme_hash: HashAlgorithm
    ak: TpmPublic


def authenticate(evidence: Evidence, ak: TpmPublic) -> AuthenticQuote:
    """Prove that ``ak`` is an attestation key and that it signed the evidence's quote.

    Args:
        evidence: Parsed, believed by nobody yet.
        ak: The device's attestation key as enrolled.

    Returns:
        The quote, now authentic (TPM 2.0 Part 3, 18.4 TPM2_Quote).

    Raises:
        SignatureInvalid: If magic, type, key attributes, scheme or signature are wrong.
        InputError: If the structures are malformed or use an algorithm we do not take.
    """
    require_attestation_key(ak)
    attest = parse_attest(evidence.quote.attest)
    if attest.type != TPM_ST_ATTEST_QUOTE or attest.quote is None:
        raise SignatureInvalid(
            RefusalCode.QUOTE_TYPE_WRONG,
            f"type is 0x{attest.type:04x}, wanted a quote (0x{TPM_ST_ATTEST_QUOTE:04x})",
            structure="TPMS_ATTEST",
        )
    scheme_hash = verify_attest(ak, attest.raw, evidence.quote.signature)
    return AuthenticQuote(
        evidence=evidence, attest=attest, quoted=attest.quote, scheme_hash=scheme_hash, ak=ak
    )
