"""A maker that presses CoRIMs: unsigned, signed, and bent where a test wants them bent."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestation.wire.strict_cbor import CborKey, CborValue, Tagged, encode

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

UUID = Tagged(37, bytes(range(16)))
A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
CLASS: dict[CborKey, CborValue] = {0: UUID, 1: "ACME", 2: "RoadRunner"}

_RSA_HASHES = {-37: hashes.SHA256(), -38: hashes.SHA384(), -39: hashes.SHA512()}
_ECDSA = {
    -7: (32, hashes.SHA256()),
    -9: (32, hashes.SHA256()),
    -35: (48, hashes.SHA384()),
    -51: (48, hashes.SHA384()),
    -36: (66, hashes.SHA512()),
    -52: (66, hashes.SHA512()),
}


def registers(values: dict[int | str, bytes], algorithm: int | str = 1) -> CborValue:
    """A measurement map with integrity registers."""
    return {1: {14: {index: [[algorithm, value]] for index, value in values.items()}}}


def triple(*measurements: CborValue, environment: CborValue | None = None) -> CborValue:
    return [environment if environment is not None else {0: CLASS}, list(measurements)]


def comid(
    *triples: CborValue,
    version: int = 3,
    more: dict[CborKey, CborValue] | None = None,
    other_triples: dict[CborKey, CborValue] | None = None,
) -> CborValue:
    """A CoMID under its tag."""
    chosen = list(triples) or [triple(registers({0: A, 4: B}))]
    body = {
        1: {0: "roadrunner-fw", 1: version},
        4: {0: chosen, **(other_triples or {})},
        **(more or {}),
    }
    return Tagged(506, encode(body))


def corim(*tags: CborValue, more: dict[CborKey, CborValue] | None = None) -> bytes:
    """An unsigned CoRIM."""
    return encode(Tagged(501, {0: "acme-2026-03", 1: list(tags) or [comid()], **(more or {})}))


def protected_header(algorithm: int = -7, **changed: CborValue) -> dict[CborKey, CborValue]:
    """The header of a signed CoRIM; ``label_3=None`` leaves one out, another value sets it."""
    header: dict[CborKey, CborValue] = {
        1: algorithm,
        3: "application/rim+cbor",
        8: encode({0: {0: "ACME Ltd."}}),
    }
    for name, value in changed.items():
        label = int(name.removeprefix("label_"))
        header.pop(label, None)
        if value is not None:
            header[label] = value
    return header


def sign(key: PrivateKey, algorithm: int, message: bytes) -> bytes:
    """A COSE signature (RFC 9053 section 2, RFC 8230 section 2)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size, chosen = _ECDSA[algorithm]
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(chosen, deterministic_signing=True)))
        return r.to_bytes(size) + s.to_bytes(size)
    if isinstance(key, rsa.RSAPrivateKey):
        digest = _RSA_HASHES[algorithm]
        salted = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        return key.sign(message, salted, digest)
    return key.sign(message)


def signed(
    key: PrivateKey,
    payload: bytes | None = None,
    *,
    algorithm: int = -7,
    protected: dict[CborKey, CborValue] | None = None,
    unprotected: dict[CborKey, CborValue] | None = None,
) -> bytes:
    """A signed CoRIM (draft-ietf-rats-corim, section 4.2)."""
    content = corim() if payload is None else payload
    header = encode(protected if protected is not None else protected_header(algorithm))
    signature = sign(key, algorithm, encode(["Signature1", header, b"", content]))
    return encode(Tagged(18, [header, unprotected or {}, content, signature]))


def public_pem(key: PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
