"""Azure managed identity tokens: verified for real, and never enough alone.

The token is what the instance's metadata service gives for the audience that the owner has chosen:
a JWT signed with RS256 by a key that Azure publishes as a JWK set; the owner configures the set.
``xms_mirid`` names the resource that the identity belongs to. (Microsoft identity platform: access
tokens, "Validate tokens"; managed identities, "Acquire a token".)

Whoever may ask the instance's metadata service has such a token, and holds it until it ends. It
says which resource a device claims to be; only a TPM says that it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.types import Options

from attestation.errors import IdentityMismatch, MalformedInput, NotFresh, SignatureInvalid
from attestation.limits import MAX_CLOUD_DOCUMENT_BYTES
from attestation.refusals import RefusalCode

LEEWAY: Final = timedelta(seconds=60)
"""By how much Azure's clock and ours may differ."""

_STRUCTURE: Final = "Azure managed identity token"
_ALGORITHM: Final = "RS256"
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KEYS_IN_HEADER: Final = ("jwk", "jku", "x5u", "x5c", "crit")
"""``x5t`` is a name like ``kid``; these are keys, or change what is signed."""
_MIN_RSA_BITS: Final = 2048
_MAX_MOMENT: Final = 253_402_300_799
"""The last second of the year 9999."""

# The caller's moment is judged, not the library's clock; claims are judged below, with own codes.
_OPTIONS: Final[Options] = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureKeys:
    """Whose managed identity tokens are believed.

    Attributes:
        keys: Azure's RSA keys by ``kid``.
        issuers: ``iss`` of the owner's tenants.
        audience: ``aud`` that a device asks for.
        resources: Patterns of ``xms_mirid``, compared without case.
    """

    keys: Mapping[str, rsa.RSAPublicKey]
    issuers: frozenset[str]
    audience: str
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureResource:
    """A resource that Azure vouched for.

    Attributes:
        resource: Its id, ``/subscriptions/…``, in lower case.
    """

    resource: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of what only one device may be."""
        return hashlib.sha256(self.resource.encode()).digest()


def read_jwks(document: Mapping[str, object]) -> dict[str, rsa.RSAPublicKey]:
    """Return the RSA signature keys of a JWK set (RFC 7517) by ``kid``; others are left out.

    Raises:
        ValueError: If there is none, one is malformed or weak, or two have one ``kid``.
    """
    keys = document.get("keys")
    found: dict[str, rsa.RSAPublicKey] = {}
    for one in keys if isinstance(keys, list) else ():
        if not isinstance(one, dict) or one.get("kty") != "RSA" or one.get("use", "sig") != "sig":
            continue
        kid = one.get("kid")
        try:
            key = jwt.PyJWK(dict(one), algorithm=_ALGORITHM).key
        except (jwt.PyJWTError, ValueError) as error:
            raise ValueError(f"the key {str(kid)[:40]!r} is malformed") from error
        if not isinstance(kid, str) or kid in found:
            raise ValueError("a key has no kid, or two have the same")
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
            raise ValueError(f"the key {kid[:40]!r} is not a public RSA key of 2048 bits or more")
        found[kid] = key
    if not found:
        raise ValueError("it holds no RSA signature key")
    return found


def judge_azure(token: str, trusted: AzureKeys, at: datetime) -> AzureResource:
    """Prove that Azure issued a managed identity token to one of the owner's resources.

    Args:
        token: JWT in compact form.
        trusted: From the enrolment policy.
        at: The moment of judgement (aware).

    Raises:
        MalformedInput: ``azure-token-malformed``.
        SignatureInvalid: ``azure-signature-invalid``.
        NotFresh: ``azure-token-expired``, also before its time.
        IdentityMismatch: ``azure-token-foreign`` for another issuer, audience or resource.
    """
    claims = _verified(token, trusted.keys)
    ends, begins = _moment(claims, "exp"), _moment(claims, "nbf", default=_moment(claims, "iat"))
    if not begins - LEEWAY <= at < ends + LEEWAY:
        raise NotFresh(
            RefusalCode.AZURE_TOKEN_EXPIRED,
            f"the token is for {begins.isoformat()} to {ends.isoformat()}",
            structure=_STRUCTURE,
        )
    resource = claims.get("xms_mirid")
    if not isinstance(resource, str) or not resource.startswith("/"):
        raise _malformed("xms_mirid is missing: it is no managed identity's token")
    resource = resource.lower()
    foreign = [
        name
        for name, fits in (
            ("iss", any(claims.get("iss") == one for one in trusted.issuers)),
            ("aud", claims.get("aud") == trusted.audience),
            ("xms_mirid", any(fnmatchcase(resource, one.lower()) for one in trusted.resources)),
        )
        if not fits
    ]
    if foreign:
        raise IdentityMismatch(
            RefusalCode.AZURE_TOKEN_FOREIGN,
            f"{', '.join(foreign)} of the token is not what the enrolment policy names",
            structure=_STRUCTURE,
        )
    return AzureResource(resource=resource)


def _verified(token: str, keys: Mapping[str, rsa.RSAPublicKey]) -> Mapping[str, object]:
    if len(token) > MAX_CLOUD_DOCUMENT_BYTES or not _COMPACT.fullmatch(token):
        raise _malformed("it is not a JWT in compact form, or too large")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as error:
        raise _malformed("it has no JWT header that can be read") from error
    carried = [name for name in _KEYS_IN_HEADER if name in header]
    if carried:
        raise _unsigned(f"its header carries {', '.join(carried)}; keys in tokens are not used")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise _malformed("its typ is not JWT")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise _unsigned("it names no key of the configured JWK set")
    try:
        claims: Mapping[str, object] = jwt.decode(
            token, key, algorithms=[_ALGORITHM], options=_OPTIONS
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
        raise _unsigned(f"no {_ALGORITHM} signature by the key that kid names") from error
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _malformed(f"it is no JWT: {type(error).__name__}") from error
    return claims


def _moment(
    claims: Mapping[str, object], name: str, *, default: datetime | None = None
) -> datetime:
    value = claims.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _malformed(f"{name} is missing or no number")
    if not 0 <= value <= _MAX_MOMENT:
        raise _malformed(f"{name} names no moment")
    return datetime.fromtimestamp(value, UTC)


def _unsigned(reason: str) -> SignatureInvalid:
    return SignatureInvalid(RefusalCode.AZURE_SIGNATURE_INVALID, reason, structure=_STRUCTURE)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.AZURE_TOKEN_MALFORMED, reason, structure=_STRUCTURE)
