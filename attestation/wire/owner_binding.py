"""What an owner signs for an AI agent: this key, in my name, with this scope, until then.

A JWS with ``typ: owner-binding+jwt`` and exactly these claims::

    {"cnf": {"jkt": RFC 7638 thumbprint of the agent's key}, "owner": id, "scope": [* word],
     "exp": seconds since 1970, "nonce": the challenge, base64url}

``cnf.jkt`` is the confirmation method of RFC 9449, 6.1. The owner's key is P-256, P-384 or Ed25519
and is had beforehand; keys inside the token are not taken.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.base64url import base64url_text
from attestation.capabilities import require_canonical
from attestation.errors import (
    IdentityMismatch,
    InputError,
    MalformedInput,
    NotFresh,
    SignatureInvalid,
)
from attestation.limits import MAX_OWNER_BINDING_CHARS, MAX_OWNER_CHARS, MAX_PEM_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.jwk import algorithm_of, thumbprint
from attestation.wire.jws import read_jws
from attestation.wire.strict_json import parse_json

TOKEN_TYPE: Final = "owner-binding+jwt"  # noqa: S105 - a media type, not a secret
REQUEST_TYPE: Final = "owner-binding-request"

OwnerKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
OwnerPrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_STRUCTURE: Final = "owner binding"
_CLAIMS: Final = frozenset({"cnf", "owner", "scope", "exp", "nonce"})
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OWNER: Final = re.compile(rf"[\x21-\x7E]{{1,{MAX_OWNER_CHARS}}}")
_MAX_NONCE_CHARS: Final = 128
_LAST_SECOND: Final = 253_402_300_799
"""The end of year 9999: what a datetime can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerBinding:
    """What was signed.

    Attributes:
        thumbprint: RFC 7638 thumbprint of the agent's key.
        owner: The owner's id: 1 to 256 visible ASCII characters.
        scope: What the agent may at most be given, in canonical order.
        expires_at: When the binding ends (aware, whole seconds).
        nonce: The verifier's challenge that it answers.
    """

    thumbprint: str
    owner: str
    scope: tuple[str, ...]
    expires_at: datetime
    nonce: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingRequest:
    """What a device hands to the owner to be signed; a file.

    Attributes:
        holder: The SPIFFE id that the agent will get, for the owner to read.
        thumbprint: RFC 7638 thumbprint of its key.
        scope: What it wants, in canonical order.
        nonce: The verifier's challenge.
    """

    holder: str
    thumbprint: str
    scope: tuple[str, ...]
    nonce: bytes = field(repr=False)


def sign_binding(binding: OwnerBinding, key: OwnerPrivateKey) -> str:
    """Return the signed binding.

    Raises:
        ValueError: If the key is of another curve.
        MalformedInput: If the binding is not as it must be.
    """
    claims = {
        "cnf": {"jkt": binding.thumbprint},
        "owner": binding.owner,
        "scope": list(binding.scope),
        "exp": int(binding.expires_at.timestamp()),
        "nonce": base64url_text(binding.nonce),
    }
    _read(claims)
    payload = json.dumps(claims, separators=(",", ":"), sort_keys=True).encode()
    public = key.public_key()
    header = {"typ": TOKEN_TYPE, "kid": thumbprint(public)}
    return jwt.PyJWS().encode(payload, key, algorithm=algorithm_of(public), headers=header)


def read_owner(token: str) -> str:
    """Return the owner that a binding names, believed by nobody yet.

    Raises:
        MalformedInput: ``owner-binding-malformed``.
    """
    claimed = read_jws(token, kind=TOKEN_TYPE, limit=MAX_OWNER_BINDING_CHARS, wrong=_malformed)
    return _read(claimed.claims).owner


def verify_binding(
    token: str, key: OwnerKey, *, agent_thumbprint: str, at: datetime
) -> OwnerBinding:
    """Check a binding's signature, key and time. The nonce is for whoever issued it to judge.

    Args:
        token: The JWS.
        key: The key of the owner that it names.
        agent_thumbprint: RFC 7638 thumbprint of the key to be certified.
        at: Now (aware).

    Raises:
        MalformedInput: ``owner-binding-malformed``.
        SignatureInvalid: ``owner-signature-invalid``.
        IdentityMismatch: ``owner-binding-mismatch`` if it is for another key.
        NotFresh: ``owner-binding-expired``.
    """
    claimed = read_jws(token, kind=TOKEN_TYPE, limit=MAX_OWNER_BINDING_CHARS, wrong=_malformed)
    binding = _read(claimed.claims)
    if not claimed.signed_by(key):
        raise SignatureInvalid(
            RefusalCode.OWNER_SIGNATURE_INVALID,
            f"the key of owner {binding.owner} did not make this signature",
            structure=_STRUCTURE,
        )
    if not hmac.compare_digest(binding.thumbprint, agent_thumbprint):
        raise IdentityMismatch(
            RefusalCode.OWNER_BINDING_MISMATCH,
            "the owner signed for another key than the one to be certified",
            structure=_STRUCTURE,
        )
    if at >= binding.expires_at:
        raise NotFresh(
            RefusalCode.OWNER_BINDING_EXPIRED,
            f"the binding ended at {binding.expires_at.isoformat()}",
            structure=_STRUCTURE,
        )
    return binding


def read_owner_key(pem: str, name: str) -> OwnerKey:
    """Read an owner's public key.

    Raises:
        MalformedInput: ``key-malformed``, or ``key-too-weak`` for another kind than ours.
    """
    try:
        if len(pem) > MAX_PEM_BYTES:
            raise ValueError("too large")  # noqa: TRY301 - one way out
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise MalformedInput(
            RefusalCode.KEY_MALFORMED, "not a public key in PEM", structure=f"owner {name}"
        ) from error
    strong = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) and (
        strong or isinstance(key, ed25519.Ed25519PublicKey)
    ):
        return key
    raise MalformedInput(
        RefusalCode.KEY_TOO_WEAK,
        "an owner's key is P-256, P-384 or Ed25519",
        structure=f"owner {name}",
    )


_CURVES: Final = frozenset({"secp256r1", "secp384r1"})


def require_owner_id(text: str) -> str:
    """Return an owner's id. Raises MalformedInput: ``owner-binding-malformed``."""
    if not _OWNER.fullmatch(text):
        raise _malformed(
            f"names an owner that is not 1 to {MAX_OWNER_CHARS} visible ASCII characters"
        )
    return text


def binding_request_text(request: BindingRequest) -> str:
    """Return a binding request as the JSON text that goes to the owner."""
    document = {
        "type": REQUEST_TYPE,
        "holder": request.holder,
        "jkt": request.thumbprint,
        "scope": list(request.scope),
        "nonce": base64url_text(request.nonce),
    }
    return json.dumps(document, indent=1) + "\n"


def read_binding_request(text: bytes) -> BindingRequest:
    """Read a binding request.

    Raises:
        MalformedInput: ``owner-binding-malformed``.
    """
    try:
        if len(text) > MAX_OWNER_BINDING_CHARS:
            raise ValueError("too large")  # noqa: TRY301 - one way out
        document = parse_json(text)
    except ValueError as error:
        raise _malformed(f"request cannot be read: {str(error)[:80]}") from error
    keys = {"type", "holder", "jkt", "scope", "nonce"}
    if not isinstance(document, dict) or document.keys() != keys:
        raise _malformed(f"request has other keys than {', '.join(sorted(keys))}")
    if document["type"] != REQUEST_TYPE or not isinstance(document["holder"], str):
        raise _malformed("request is of another type, or names no holder")
    return BindingRequest(
        holder=document["holder"],
        thumbprint=_jkt(document["jkt"]),
        scope=_scope(document["scope"]),
        nonce=_nonce(document["nonce"]),
    )


def _read(claims: Mapping[str, Any]) -> OwnerBinding:
    if claims.keys() != _CLAIMS:
        raise _malformed(f"has other claims than {', '.join(sorted(_CLAIMS))}")
    cnf, owner, expires = claims["cnf"], claims["owner"], claims["exp"]
    if not isinstance(cnf, dict) or cnf.keys() != {"jkt"}:
        raise _malformed("cnf does not name a key by jkt alone")
    if not isinstance(owner, str):
        raise _malformed("owner is no text")
    if type(expires) is not int or not 0 < expires <= _LAST_SECOND:
        raise _malformed("exp is no whole number of seconds since 1970")
    return OwnerBinding(
        thumbprint=_jkt(cnf["jkt"]),
        owner=require_owner_id(owner),
        scope=_scope(claims["scope"]),
        expires_at=datetime.fromtimestamp(expires, UTC),
        nonce=_nonce(claims["nonce"]),
    )


def _jkt(text: object) -> str:
    if not isinstance(text, str) or not _THUMBPRINT.fullmatch(text):
        raise _malformed("jkt is no SHA-256 thumbprint in base64url")
    return text


def _scope(words: object) -> tuple[str, ...]:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _malformed("scope is no list of words")
    try:
        return require_canonical(words)
    except InputError as error:
        raise _malformed(f"scope: {error.reason}") from error


def _nonce(text: object) -> bytes:
    try:
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_NONCE_CHARS:
            raise ValueError("size")  # noqa: TRY301 - one way out
        nonce = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("nonce is not base64url of a size we take") from error
    return nonce


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.OWNER_BINDING_MALFORMED, reason, structure=_STRUCTURE)
