"""JWS by hand, right or wrong, for tests; shares no code with what it tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def b64(content: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The other way."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signature(key: PrivateKey, message: bytes) -> bytes:
    """ES256, ES384, EdDSA or RS256 (RFC 7518, 3; RFC 8037, 3.1)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    size = (key.key_size + 7) // 8
    algorithm = hashes.SHA256() if size == 32 else hashes.SHA384()
    r, s = utils.decode_dss_signature(
        key.sign(message, ec.ECDSA(algorithm, deterministic_signing=True))
    )
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def jws(header: Mapping[str, object], claims: object, key: PrivateKey) -> str:
    """Sign whatever is given."""
    return jws_text(json.dumps(header), json.dumps(claims), key)


def jws_text(header: str, claims: str, key: PrivateKey) -> str:
    """The same of texts, which need not be JSON."""
    signed = f"{b64(header.encode())}.{b64(claims.encode())}"
    return f"{signed}.{b64(signature(key, signed.encode()))}"


def taken_apart(token: str) -> tuple[dict[str, object], dict[str, object], bytes]:
    """Header, claims and signature of a token, believed by nobody."""
    header, claims, made = token.split(".")
    return json.loads(unb64(header)), json.loads(unb64(claims)), unb64(made)


def holds(token: str, key: ec.EllipticCurvePublicKey) -> bool:
    """Whether a P-256 key made an ES256 signature, by plain ECDSA."""
    signed, _, made = token.rpartition(".")
    raw = unb64(made)
    if len(raw) != 64:
        return False
    der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    try:
        key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    except Exception:  # noqa: BLE001 - whatever it is, it does not hold
        return False
    return True
