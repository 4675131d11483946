"""TPMT_SIGNATURE, and the one place where a TPM's attestation is proven (Part 2, 11.3.4)."""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.algorithms import HashAlgorithm, hash_by_id
from attestation.errors import SignatureInvalid, Unsupported
from attestation.limits import MAX_TPM_STRUCTURE_BYTES
from attestation.reader import Reader, Struct
from attestation.refusals import RefusalCode
from attestation.tpm.constants import KeyType, SignatureScheme
from attestation.tpm.public import PublicKey, TpmPublic, require_accepted_key

_STRUCTURE: Final = "TPMT_SIGNATURE"
_HEAD: Final = Struct(">HH")
_USUAL: Final = Struct(">HHH32sH32s")
"""ECDSA over a curve of 256 bits, both numbers padded to 32 bytes."""
_MAX_RSA_BYTES: Final = 512
_MAX_COORDINATE_BYTES: Final = 66
_COORDINATE_BYTES: Final = 32
_STRONG: Final[dict[int, HashAlgorithm]] = {
    int(one): one for one in HashAlgorithm if one is not HashAlgorithm.SHA1
}
_ECDSA: Final = {one: ec.ECDSA(one.for_signature()) for one in _STRONG.values()}


class TpmSignature(NamedTuple):
    """One signature as a TPM makes it, ready for a library.

    Attributes:
        scheme: ECDSA, RSASSA or RSAPSS.
        hash: The scheme's hash: also the hash of a quote's pcrDigest.
        der: DER Ecdsa-Sig-Value (RFC 3279, 2.2.3), or the raw RSA signature.
    """

    scheme: SignatureScheme
    hash: HashAlgorithm
    der: bytes


def parse_signature(raw: bytes) -> TpmSignature:
    """Read a TPMT_SIGNATURE (TPM 2.0 Part 2, 11.3.4).

    Args:
        raw: The structure without a TPM2B size.

    Returns:
        The scheme, its hash and the signature.

    Raises:
        MalformedInput: If it is truncated or has trailing bytes.
        LimitExceeded: If a field is larger than any accepted key's signature.
        Unsupported: For other schemes and for SHA-1.
    """
    if len(raw) == _USUAL.size and (usual := _usual_ecdsa(raw)) is not None:
        return usual
    return _by_fields(raw)


def _usual_ecdsa(raw: bytes) -> TpmSignature | None:
    """Read an ECDSA signature of the usual sizes in one go; None if a length or value is another.

    What it refuses is read field by field, to tell what is wrong.
    """
    scheme, hash_id, r_size, r, s_size, s = _USUAL.unpack(raw)
    algorithm = _STRONG.get(hash_id)
    if (
        scheme != SignatureScheme.ECDSA
        or algorithm is None
        or r_size != _COORDINATE_BYTES
        or s_size != _COORDINATE_BYTES
    ):
        return None
    value = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    return TpmSignature(SignatureScheme.ECDSA, algorithm, value)


def _by_fields(raw: bytes) -> TpmSignature:
    """Read any TPMT_SIGNATURE field by field, each bounded before it is read."""
    reader = Reader(raw, _STRUCTURE, limit=MAX_TPM_STRUCTURE_BYTES)
    scheme_id, hash_id = reader.unpack(_HEAD, "sigAlg and hash")
    try:
        scheme = SignatureScheme(scheme_id)
    except ValueError as error:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM,
            f"signature scheme 0x{scheme_id:04x} is not supported, wanted ECDSA, RSASSA or RSAPSS",
            structure=_STRUCTURE,
            offset=0,
        ) from error
    algorithm = hash_by_id(hash_id)
    algorithm.for_signature()  # refuses SHA-1
    if scheme is SignatureScheme.ECDSA:
        r = reader.sized("signatureR", limit=_MAX_COORDINATE_BYTES)
        s = reader.sized("signatureS", limit=_MAX_COORDINATE_BYTES)
        value = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    else:
        value = reader.sized("sig", limit=_MAX_RSA_BYTES)
    reader.end()
    return TpmSignature(scheme, algorithm, value)


def verify_attest(public: TpmPublic | PublicKey, attest: bytes, signature: bytes) -> HashAlgorithm:
    """Check a TPM's signature over the bytes of a TPMS_ATTEST (or a CSR's content).

    This proves who signed, not that the key is fit to attest:
    :func:`attestation.tpm.public.require_attestation_key` judges that once per key.

    Args:
        public: The signer; give a :class:`TpmPublic` parsed once and kept. A bare key has no
            scheme of its own, so only its type is held against the signature.
        attest: The signed bytes.
        signature: TPMT_SIGNATURE.

    Returns:
        The hash of the signing scheme, which is also that of a quote's pcrDigest (Part 3, 18.4).

    Raises:
        SignatureInvalid: ``signature-scheme-mismatch`` if key and signature disagree on scheme or
            hash, ``quote-signature-invalid`` if it does not verify.
        MalformedInput: As :func:`parse_signature`.
        LimitExceeded: As :func:`parse_signature`.
        Unsupported: As :func:`parse_signature`, and for a bare key of another
            curve or size (:func:`attestation.tpm.public.require_accepted_key`).
    """
    claimed = parse_signature(signature)
    if isinstance(public, TpmPublic):
        key = public.key
        _require_own_scheme(public, claimed)
    else:
        key = public
        require_accepted_key(key)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            _require_type(KeyType.ECC, claimed)
            key.verify(claimed.der, attest, _ECDSA[claimed.hash])
        else:
            _require_type(KeyType.RSA, claimed)
            key.verify(claimed.der, attest, _padding(claimed), claimed.hash.for_signature())
    except InvalidSignature as error:
        raise SignatureInvalid(
            RefusalCode.QUOTE_SIGNATURE_INVALID,
            "the signature does not verify with this key: the bytes were changed, or another key "
            "signed them",
            structure=_STRUCTURE,
        ) from error
    return claimed.hash


def _padding(claimed: TpmSignature) -> padding.PKCS1v15 | padding.PSS:
    if claimed.scheme is SignatureScheme.RSASSA:
        return padding.PKCS1v15()
    # A TPM salts with the digest's length or with all the room there is (Part 1, B.7).
    return padding.PSS(padding.MGF1(claimed.hash.for_signature()), padding.PSS.AUTO)


def _require_type(key_type: KeyType, claimed: TpmSignature) -> None:
    if claimed.scheme.key_type is not key_type:
        raise SignatureInvalid(
            RefusalCode.SIGNATURE_SCHEME_MISMATCH,
            f"the signature is {claimed.scheme.name}, the key is {key_type.name}",
            structure=_STRUCTURE,
        )


def _require_own_scheme(public: TpmPublic, claimed: TpmSignature) -> None:
    scheme, algorithm = public.scheme
    if scheme is None or algorithm is None:
        return
    if scheme is not claimed.scheme or algorithm is not claimed.hash:
        raise SignatureInvalid(
            RefusalCode.SIGNATURE_SCHEME_MISMATCH,
            f"the signature is {claimed.scheme.name} with {claimed.hash.name}, the key signs only "
            f"{scheme.name} with {algorithm.name}",
            structure=_STRUCTURE,
        )
