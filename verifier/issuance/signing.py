"""Signatures of a CA over structures that are written here (revocation lists, OCSP answers)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from attestation.der import BIT_STRING, NULL, SEQUENCE, write, write_oid
from verifier.issuance.profiles import PrivateKey

Digest = hashes.SHA256 | hashes.SHA384

_ECDSA: Final = {256: "1.2.840.10045.4.3.2", 384: "1.2.840.10045.4.3.3"}
"""ecdsa-with-SHA2 (RFC 5758, 3.2) by the bits of the hash."""

_RSA: Final = {256: "1.2.840.113549.1.1.11", 384: "1.2.840.113549.1.1.12"}
"""sha2WithRSAEncryption (RFC 4055, 5)."""


def algorithm_identifier(key: PrivateKey, digest: Digest) -> bytes:
    """Return the AlgorithmIdentifier of what :func:`sign` makes."""
    bits = 8 * digest.digest_size
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return write(SEQUENCE, write_oid(_ECDSA[bits]))
    return write(SEQUENCE, write_oid(_RSA[bits]), write(NULL))


def sign(key: PrivateKey, digest: Digest, content: bytes) -> bytes:
    """Return a signature as BIT STRING; a key in a token or TPM signs there.

    Raises:
        Unavailable: If that key cannot be used now.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(content, ec.ECDSA(digest))
    else:
        signature = key.sign(content, padding.PKCS1v15(), digest)
    return write(BIT_STRING, b"\x00", signature)
