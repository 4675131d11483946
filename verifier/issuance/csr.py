"""PKCS#10 requests: proof that the device holds the key that it wants certified."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import IdentityMismatch, LimitExceeded, MalformedInput, SignatureInvalid
from attestation.limits import MAX_ATTESTED_CSR_BYTES
from attestation.refusals import RefusalCode
from attestation.tpm.public import TpmPublic

_STRUCTURE = "CertificationRequest"
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def require_csr_by(der: bytes, public: TpmPublic) -> None:
    """Check that a request was made for, and signed by, the given key (RFC 2986, 4.2).

    Subject, names and extensions of the request are ignored: the issuer decides them.

    Args:
        der: The request.
        public: The key that was certified to live in the device's TPM.

    Raises:
        MalformedInput: ``csr-malformed``.
        LimitExceeded: If it is too large.
        IdentityMismatch: ``csr-key-mismatch`` if it is for another key.
        SignatureInvalid: ``csr-signature-invalid``.
    """
    if len(der) > MAX_ATTESTED_CSR_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(der)} bytes, at most {MAX_ATTESTED_CSR_BYTES} are accepted",
            structure=_STRUCTURE,
        )
    try:
        request = x509.load_der_x509_csr(der)
        spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise MalformedInput(
            RefusalCode.CSR_MALFORMED,
            f"not one well-formed PKCS#10 request: {str(error)[:120]}",
            structure=_STRUCTURE,
        ) from error
    if spki != public.spki_der:
        raise IdentityMismatch(
            RefusalCode.CSR_KEY_MISMATCH,
            "the request is for another key than the one the attestation key certified",
            structure=_STRUCTURE,
        )
    if not _is_self_signed(request):
        raise SignatureInvalid(
            RefusalCode.CSR_SIGNATURE_INVALID,
            "the request is not signed by its own key with SHA-256 or better",
            structure=_STRUCTURE,
        )


def _is_self_signed(request: x509.CertificateSigningRequest) -> bool:
    try:
        return isinstance(request.signature_hash_algorithm, _HASHES) and request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        return False
