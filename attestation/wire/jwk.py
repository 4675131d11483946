"""Public keys as JWK (RFC 7517; RFC 7518, 6; RFC 8037, 2) and their thumbprints (RFC 7638)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.base64url import base64url_text

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

_CURVES: Final = {"secp256r1": ("P-256", "ES256"), "secp384r1": ("P-384", "ES384")}
_MIN_RSA_BITS: Final = 2048
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of a JWK that nobody but its owner may see (RFC 7518, 6)."""


def algorithm_of(key: PublicKey) -> str:
    """Return the JWS algorithm that a key signs with here: ES256, ES384, EdDSA or RS256.

    Raises:
        ValueError: For another curve, or RSA below 2048 bits.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name][1]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return "RS256"
    raise ValueError("keys are P-256, P-384, Ed25519 or RSA of 2048 bits or more")


def public_jwk(key: PublicKey) -> dict[str, str]:
    """Return a key's required members and nothing else, in lexical order (RFC 7638, 3.2).

    Raises:
        ValueError: For a kind of key that :func:`algorithm_of` does not know.
    """
    algorithm_of(key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        size, numbers = (key.key_size + 7) // 8, key.public_numbers()
        return {
            "crv": _CURVES[key.curve.name][0],
            "kty": "EC",
            "x": base64url_text(numbers.x.to_bytes(size)),
            "y": base64url_text(numbers.y.to_bytes(size)),
        }
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": base64url_text(raw)}
    rsa_numbers = key.public_numbers()
    return {"e": _number(rsa_numbers.e), "kty": "RSA", "n": _number(rsa_numbers.n)}


def thumbprint(key: PublicKey) -> str:
    """Return the key's SHA-256 thumbprint, base64url without padding (RFC 7638).

    Raises:
        ValueError: As :func:`public_jwk`.
    """
    canonical = json.dumps(public_jwk(key), separators=(",", ":"), sort_keys=True)
    return base64url_text(hashlib.sha256(canonical.encode()).digest())


def key_of(jwk: Mapping[str, object]) -> PublicKey:
    """Return the key of a JWK.

    Raises:
        ValueError: If it is malformed, private, symmetric, or of a kind that we do not take.
    """
    private = sorted(_PRIVATE.intersection(jwk))
    if private:
        raise ValueError(f"it has the private member {private[0]!r}")
    try:
        key = jwt.PyJWK({**jwk}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise ValueError("it is no JWK of a public key") from error
    if not isinstance(key, PublicKey):
        raise ValueError("it is no public key")  # noqa: TRY004 - whoever sent it erred
    if {name: jwk.get(name) for name in public_jwk(key)} != public_jwk(key):
        raise ValueError("its members are not in their canonical form")
    return key


def _number(value: int) -> str:
    return base64url_text(value.to_bytes((value.bit_length() + 7) // 8))
