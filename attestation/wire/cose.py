"""COSE_Sign1 (RFC 9052 section 4.2): one signature over a payload.

The algorithm counts only from the protected header, a key only from the caller: key ids and
certificates in the message are hints of a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.errors import MalformedInput, SignatureInvalid, Unsupported
from attestation.limits import MAX_CORIM_BYTES, MAX_CORIM_DEPTH
from attestation.refusals import RefusalCode
from attestation.wire.strict_cbor import CborKey, CborValue, Tagged, decode, encode

SIGN1_TAG: Final = 18
"""CBOR tag of COSE_Sign1 (RFC 9052 section 2)."""

_STRUCTURE: Final = "COSE_Sign1"
_PARTS: Final = 4
_ALGORITHM, _CRITICAL, _CONTENT_TYPE, _KEY_ID = 1, 2, 3, 4
_HASH_ENVELOPE: Final = frozenset({258, 259, 260})
"""Labels of hash envelopes, where the payload is a digest of what was signed."""
_MAX_KEY_ID_BYTES: Final = 256
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192

CoseKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
"""Keys that a signature may be checked with."""


@dataclass(frozen=True, slots=True)
class _Ecdsa:
    """ECDSA on exactly one curve (RFC 9053 section 2.1, RFC 9864 section 2.1)."""

    curve: str
    size: int
    hash: hashes.HashAlgorithm

    def verify(self, key: CoseKey, signature: bytes, message: bytes) -> None:
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != self.curve:
            raise _invalid(f"the algorithm wants a key on {self.curve}, the signer's is another")
        if len(signature) != 2 * self.size:
            raise _invalid(f"the signature has {len(signature)} bytes, wanted {2 * self.size}")
        r, s = signature[: self.size], signature[self.size :]
        der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        key.verify(der, message, ec.ECDSA(self.hash))


@dataclass(frozen=True, slots=True)
class _Pss:
    """RSASSA-PSS with MGF1 and a salt of the hash's size (RFC 8230 section 2)."""

    hash: hashes.HashAlgorithm

    def verify(self, key: CoseKey, signature: bytes, message: bytes) -> None:
        if not isinstance(key, rsa.RSAPublicKey):
            raise _invalid("the algorithm wants an RSA key, the signer's is another")
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise _invalid(f"the signer's RSA key has {key.key_size} bits, wanted 2048 to 8192")
        salted = padding.PSS(mgf=padding.MGF1(self.hash), salt_length=self.hash.digest_size)
        key.verify(signature, message, salted, self.hash)


@dataclass(frozen=True, slots=True)
class _EdDsa:
    """EdDSA with Ed25519 (RFC 9053 section 2.2, RFC 9864 section 2.2)."""

    def verify(self, key: CoseKey, signature: bytes, message: bytes) -> None:
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise _invalid("the algorithm wants an Ed25519 key, the signer's is another")
        key.verify(signature, message)


_P256: Final = _Ecdsa("secp256r1", 32, hashes.SHA256())
_P384: Final = _Ecdsa("secp384r1", 48, hashes.SHA384())
_P521: Final = _Ecdsa("secp521r1", 66, hashes.SHA512())
_ALGORITHMS: Final[Mapping[int, _Ecdsa | _Pss | _EdDsa]] = {
    -7: _P256,
    -9: _P256,
    -35: _P384,
    -51: _P384,
    -36: _P521,
    -52: _P521,
    -8: _EdDsa(),
    -19: _EdDsa(),
    -37: _Pss(hashes.SHA256()),
    -38: _Pss(hashes.SHA384()),
    -39: _Pss(hashes.SHA512()),
}
"""By COSE algorithm number (IANA "COSE Algorithms")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedSign1:
    """A COSE_Sign1 whose signature nobody has looked at yet.

    Attributes:
        algorithm: COSE algorithm number from the protected header.
        content_type: What the payload is, from the protected header; None if it does not say.
        key_id: A hint which key signed; empty if there is none. Proves nothing.
        headers: The protected header whole.
        protected: Its exact bytes.
        payload: What is signed.
        signature: As in the message.
    """

    algorithm: int
    content_type: str | int | None
    key_id: bytes
    headers: Mapping[CborKey, CborValue]
    protected: bytes
    payload: bytes
    signature: bytes


def parse_sign1(message: CborValue, *, understood: frozenset[int]) -> UnverifiedSign1:
    """Read a COSE_Sign1 (RFC 9052 section 4.2).

    Args:
        message: A decoded CBOR value, with its tag 18.
        understood: Header labels beyond the common ones that the caller understands; a message
            that declares another one critical is refused.

    Raises:
        MalformedInput: ``corim-malformed`` if it is not one, has no attached payload, or names
            its algorithm outside the protected header.
        InputError: If the protected header is not well-formed.
    """
    parts = message.value if isinstance(message, Tagged) and message.tag == SIGN1_TAG else None
    if not isinstance(parts, list) or len(parts) != _PARTS:
        raise _malformed("is not an array of four under tag 18")
    protected, unprotected, payload, signature = parts
    if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
        raise _malformed("wanted the protected header as a byte string, the other one as a map")
    if not isinstance(payload, bytes) or not payload:
        raise _malformed("has no payload of its own; detached payloads are not taken")
    if not isinstance(signature, bytes):
        raise _malformed("the signature is not a byte string")
    headers = _headers(protected)
    _check_headers(headers, unprotected, understood)
    algorithm, content_type = headers.get(_ALGORITHM), headers.get(_CONTENT_TYPE)
    key_id = headers.get(_KEY_ID, unprotected.get(_KEY_ID, b""))
    if type(algorithm) is not int:
        raise _malformed("the protected header names no algorithm (label 1, a number)")
    if not (content_type is None or type(content_type) in (str, int)):
        raise _malformed("the content type (label 3) is neither text nor a number")
    if not isinstance(key_id, bytes) or len(key_id) > _MAX_KEY_ID_BYTES:
        raise _malformed(f"the key id is not a byte string of up to {_MAX_KEY_ID_BYTES} bytes")
    return UnverifiedSign1(
        algorithm=algorithm,
        content_type=content_type if isinstance(content_type, (str, int)) else None,
        key_id=key_id,
        headers=headers,
        protected=protected,
        payload=payload,
        signature=signature,
    )


def verify_sign1(message: UnverifiedSign1, key: CoseKey) -> None:
    """Check the signature with a key that the caller trusts.

    Raises:
        Unsupported: ``unsupported-algorithm`` for an algorithm not in our list.
        SignatureInvalid: ``corim-signature-invalid`` if the key is of another kind, or did not
            sign this.
    """
    algorithm = _ALGORITHMS.get(message.algorithm)
    if algorithm is None:
        known = ", ".join(str(number) for number in sorted(_ALGORITHMS, reverse=True))
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM,
            f"COSE algorithm {message.algorithm} is not taken; taken are {known}",
            structure=_STRUCTURE,
        )
    signed = encode(["Signature1", message.protected, b"", message.payload])
    try:
        algorithm.verify(key, message.signature, signed)
    except InvalidSignature as error:
        raise _invalid("the signature is not this signer's over this content") from error


def _headers(protected: bytes) -> dict[CborKey, CborValue]:
    headers = decode(
        protected,
        limit_bytes=MAX_CORIM_BYTES,
        structure=f"{_STRUCTURE}.protected",
        integer_keys=True,
        tags=frozenset({1, 32}),
        max_depth=MAX_CORIM_DEPTH,
    )
    if not isinstance(headers, dict):
        raise _malformed("the protected header is not a map")
    return headers


def _check_headers(
    protected: dict[CborKey, CborValue],
    unprotected: dict[CborKey, CborValue],
    understood: frozenset[int],
) -> None:
    """Refuse what changes the meaning of the message (RFC 9052 sections 3 and 3.1)."""
    if _ALGORITHM in unprotected or _CRITICAL in unprotected:
        raise _malformed("names its algorithm or critical labels where nothing protects them")
    twice = protected.keys() & unprotected.keys()
    if twice:
        raise _malformed(f"has header labels twice: {sorted(map(str, twice))[:4]}")
    if _HASH_ENVELOPE & protected.keys():
        raise _malformed("is a hash envelope: the content itself is wanted")
    if _CRITICAL not in protected:
        return
    critical = protected[_CRITICAL]
    known = understood | {_ALGORITHM, _CONTENT_TYPE, _KEY_ID}
    if not isinstance(critical, list) or not critical:
        raise _malformed("the list of critical labels is empty or no list")
    strange = [
        label
        for label in critical
        if not isinstance(label, int | str) or label not in known or label not in protected
    ]
    if strange:
        raise _malformed(f"declares critical what is absent or unknown here: {strange[:4]!r}")


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CORIM_MALFORMED, reason, structure=_STRUCTURE)


def _invalid(reason: str) -> SignatureInvalid:
    return SignatureInvalid(RefusalCode.CORIM_SIGNATURE_INVALID, reason, structure=_STRUCTURE)
