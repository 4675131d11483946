"""SubjectPublicKeyInfo and signature algorithms as TPM makers write them.

RFC 3279, 4055, 5480 and 5758. Key sizes and curves are an allow-list: RSA of 2048 to 4096 bits with
exponent 65537, P-256, P-384, P-521 by name. Everything else, BN curves and explicit curve
parameters among it, is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import der
from attestation.algorithms import HashAlgorithm
from attestation.der import DerReader, Element
from attestation.errors import MalformedInput, Unsupported
from attestation.refusals import RefusalCode

_STRUCTURE: Final = "SubjectPublicKeyInfo"
_RSA: Final = "1.2.840.113549.1.1.1"
_RSAES_OAEP: Final = "1.2.840.113549.1.1.7"
_EC: Final = "1.2.840.10045.2.1"
_PSS: Final = "1.2.840.113549.1.1.10"
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 4096
_EXPONENT: Final = 65537
_UNCOMPRESSED: Final = 0x04
_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1(),
    "1.3.132.0.34": ec.SECP384R1(),
    "1.3.132.0.35": ec.SECP521R1(),
}
_CURVE_NAMES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_HASHES: Final = {
    "1.3.14.3.2.26": HashAlgorithm.SHA1,
    "2.16.840.1.101.3.4.2.1": HashAlgorithm.SHA256,
    "2.16.840.1.101.3.4.2.2": HashAlgorithm.SHA384,
    "2.16.840.1.101.3.4.2.3": HashAlgorithm.SHA512,
}
_MGF1: Final = "1.2.840.113549.1.1.8"


class SignatureKind(StrEnum):
    """How a certificate is signed."""

    RSASSA = "RSASSA-PKCS1-v1_5"
    PSS = "RSASSA-PSS"
    ECDSA = "ECDSA"
    UNKNOWN = "unknown"


_SIGNATURES: Final = {
    "1.2.840.113549.1.1.5": (SignatureKind.RSASSA, HashAlgorithm.SHA1),
    "1.2.840.113549.1.1.11": (SignatureKind.RSASSA, HashAlgorithm.SHA256),
    "1.2.840.113549.1.1.12": (SignatureKind.RSASSA, HashAlgorithm.SHA384),
    "1.2.840.113549.1.1.13": (SignatureKind.RSASSA, HashAlgorithm.SHA512),
    "1.2.840.10045.4.1": (SignatureKind.ECDSA, HashAlgorithm.SHA1),
    "1.2.840.10045.4.3.2": (SignatureKind.ECDSA, HashAlgorithm.SHA256),
    "1.2.840.10045.4.3.3": (SignatureKind.ECDSA, HashAlgorithm.SHA384),
    "1.2.840.10045.4.3.4": (SignatureKind.ECDSA, HashAlgorithm.SHA512),
}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """The key in a certificate.

    Attributes:
        key: For verifying and encrypting.
        spki_der: Its plain SubjectPublicKeyInfo, DER, whatever the certificate wrote: compare
            it with ``TpmPublic.spki_der``.
        is_oaep: Whether the certificate names the key RSAES-OAEP.
    """

    key: PublicKey = field(compare=False, repr=False)
    spki_der: bytes = field(repr=False)
    is_oaep: bool

    @property
    def modulus(self) -> int | None:
        """The RSA modulus; None for another kind of key."""
        return self.key.public_numbers().n if isinstance(self.key, rsa.RSAPublicKey) else None

    @property
    def label(self) -> str:
        """Algorithm and size: ``RSA-2048`` or ``P-384``."""
        if isinstance(self.key, rsa.RSAPublicKey):
            return f"RSA-{self.key.key_size}"
        return _CURVE_NAMES[self.key.curve.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureAlgorithm:
    """An AlgorithmIdentifier that signs.

    Attributes:
        oid: Dotted.
        kind: What it is; ``UNKNOWN`` if we verify no such signature.
        hash: Its hash; None with ``UNKNOWN``.
        salt_bytes: Of RSASSA-PSS.
        plain: Whether the parameters are as their standard wants them.
    """

    oid: str
    kind: SignatureKind
    hash: HashAlgorithm | None
    salt_bytes: int = 0
    plain: bool = True


def read_key(element: Element) -> CertifiedKey:
    """Read a SubjectPublicKeyInfo.

    Raises:
        MalformedInput: ``ek-certificate-malformed`` if it is not well formed or holds no valid key.
        Unsupported: ``ek-key-not-accepted`` for another algorithm, size, exponent or curve.
    """
    reader = DerReader(element.body, _STRUCTURE)
    algorithm = DerReader(reader.next("algorithm", der.SEQUENCE).body, _STRUCTURE)
    unused, bits = der.bit_string(reader.next("subjectPublicKey", der.BIT_STRING))
    reader.end()
    oid = der.oid(algorithm.next("algorithm", der.OID))
    if unused:
        raise _malformed("the key is not a whole number of octets")
    if oid in (_RSA, _RSAES_OAEP):
        key: PublicKey = _rsa_key(bits)
    elif oid == _EC:
        key = _ec_key(algorithm.next("curve"), bits)
        algorithm.end()
    else:
        raise _not_accepted(f"the key is of algorithm {oid}")
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return CertifiedKey(key=key, spki_der=spki, is_oaep=oid == _RSAES_OAEP)


def read_signature_algorithm(element: Element) -> SignatureAlgorithm:
    """Read a signature's AlgorithmIdentifier. Raises MalformedInput if it is not one."""
    reader = DerReader(element.body, "signature algorithm")
    oid = der.oid(reader.next("algorithm", der.OID))
    parameters = reader.next("parameters") if reader.more else None
    reader.end()
    if oid == _PSS:
        return _pss(oid, parameters)
    kind, hash_ = _SIGNATURES.get(oid, (SignatureKind.UNKNOWN, None))
    wanted = b"\x05\x00" if kind is SignatureKind.RSASSA else None
    seen = parameters.raw if parameters else None
    return SignatureAlgorithm(oid=oid, kind=kind, hash=hash_, plain=seen == wanted)


def verifies(
    key: PublicKey, algorithm: SignatureAlgorithm, signature: bytes, message: bytes
) -> bool:
    """Return whether a signature over a message verifies.

    False for algorithms that are unknown, that do not fit the key, and for everything over SHA-1.
    """
    hash_ = algorithm.hash
    if hash_ is None or hash_ is HashAlgorithm.SHA1:
        return False
    chosen = hash_.for_signature()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if algorithm.kind is not SignatureKind.ECDSA:
                return False
            key.verify(signature, message, ec.ECDSA(chosen))
        elif algorithm.kind is SignatureKind.RSASSA:
            key.verify(signature, message, padding.PKCS1v15(), chosen)
        elif algorithm.kind is SignatureKind.PSS:
            scheme = padding.PSS(mgf=padding.MGF1(chosen), salt_length=algorithm.salt_bytes)
            key.verify(signature, message, scheme, chosen)
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def _rsa_key(bits: bytes) -> rsa.RSAPublicKey:
    outer = DerReader(bits, "RSAPublicKey")
    reader = DerReader(outer.next("RSAPublicKey", der.SEQUENCE).body, "RSAPublicKey")
    outer.end()
    modulus = der.integer(reader.next("modulus", der.INTEGER))
    exponent = der.integer(reader.next("publicExponent", der.INTEGER))
    reader.end()
    size = modulus.bit_length()
    if modulus <= 0 or not _MIN_RSA_BITS <= size <= _MAX_RSA_BITS or exponent != _EXPONENT:
        shown = exponent if 0 < exponent <= 1 << 32 else "out of range"
        raise _not_accepted(f"the key is RSA with {size} bits and exponent {shown}")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise _malformed("the modulus is not one of an RSA key") from error


def _ec_key(parameters: Element, bits: bytes) -> ec.EllipticCurvePublicKey:
    if parameters.tag != der.OID:
        raise _not_accepted("the curve is not given by its name")
    oid = der.oid(parameters)
    curve = _CURVES.get(oid)
    if curve is None:
        raise _not_accepted(f"the key is on curve {oid}")
    if not bits or bits[0] != _UNCOMPRESSED:
        raise _malformed("the point is not in uncompressed form")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, bits)
    except ValueError as error:
        raise _malformed(f"the point is not on {_CURVE_NAMES[curve.name]}") from error


def _pss(oid: str, parameters: Element | None) -> SignatureAlgorithm:
    """Read RSASSA-PSS-params (RFC 4055, 3.1); one hash for message and mask, else unknown."""
    unknown = SignatureAlgorithm(oid=oid, kind=SignatureKind.UNKNOWN, hash=None, plain=False)
    if parameters is None or parameters.tag != der.SEQUENCE:
        return unknown
    reader = DerReader(parameters.body, "RSASSA-PSS-params")
    hash_ = reader.optional("hashAlgorithm", 0xA0)
    mask = reader.optional("maskGenAlgorithm", 0xA1)
    salt = reader.optional("saltLength", 0xA2)
    if hash_ is None or mask is None or salt is None or reader.more:
        return unknown  # the defaults are SHA-1, which is refused anyway
    outer = DerReader(hash_.body, "RSASSA-PSS-params").next("hashAlgorithm", der.SEQUENCE)
    chosen = _HASHES.get(_first_oid(outer))
    wrapped = DerReader(mask.body, "RSASSA-PSS-params").next("maskGenAlgorithm", der.SEQUENCE)
    inner = DerReader(wrapped.body, "RSASSA-PSS-params")
    mask_oid = der.oid(inner.next("algorithm", der.OID))
    mask_hash = _HASHES.get(_first_oid(inner.next("hash", der.SEQUENCE)))
    size = der.integer(DerReader(salt.body, "saltLength").next("saltLength", der.INTEGER))
    if chosen is None or mask_oid != _MGF1 or mask_hash is not chosen or size != chosen.size:
        return unknown
    return SignatureAlgorithm(oid=oid, kind=SignatureKind.PSS, hash=chosen, salt_bytes=size)


def _first_oid(element: Element) -> str:
    return der.oid(DerReader(element.body, "AlgorithmIdentifier").next("algorithm", der.OID))


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.EK_CERTIFICATE_MALFORMED, reason, structure=_STRUCTURE)


def _not_accepted(seen: str) -> Unsupported:
    return Unsupported(
        RefusalCode.EK_KEY_NOT_ACCEPTED,
        f"{seen}; wanted RSA of {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits with exponent "
        f"{_EXPONENT}, P-256, P-384 or P-521",
        structure=_STRUCTURE,
    )
