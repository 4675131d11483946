"""Workload identity tokens: a workload's id and key, signed by its trust domain.

draft-ietf-wimse-workload-creds, section 3, with what WIT-SVID (SPIFFE) adds: ``kid`` in the header
and no ``aud``. ``typ`` is ``wit+jwt``; ``sub``, ``exp`` and ``cnf.jwk`` with an ``alg`` inside must
be there. It is no bearer token: whoever shows it proves that key. Claims of our own have
collision-resistant names (RFC 7519, 4.2). Time is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attestation.capabilities import VALIDATION_METHODS, require_canonical, require_locator
from attestation.errors import InputError, MalformedInput, NotFresh, SignatureInvalid
from attestation.limits import MAX_WORKLOAD_TOKEN_CHARS
from attestation.refusals import RefusalCode
from attestation.wire.jwk import PublicKey, algorithm_of, key_of, public_jwk
from attestation.wire.jws import UnverifiedJws, read_jws
from attestation.wire.owner_binding import require_owner_id

TOKEN_TYPE: Final = "wit+jwt"  # noqa: S105 - a media type, not a secret
ALGORITHM: Final = "ES256"
"""What we sign with; every WIMSE implementation verifies it."""

CLAIM_PREFIX: Final = "urn:x-device-attestation:"
OWNER_CLAIM: Final = CLAIM_PREFIX + "owner"
CAPABILITIES_CLAIM: Final = CLAIM_PREFIX + "capabilities"
LOCATOR_CLAIM: Final = CLAIM_PREFIX + "locator"
VALIDATION_METHODS_CLAIM: Final = CLAIM_PREFIX + "validation-methods"

_STRUCTURE: Final = "workload identity token"
_MAX_ID_BYTES: Final = 2048
_MAX_DOMAIN: Final = 255
_ID: Final = re.compile(r"(spiffe|wimse)://([a-z0-9._-]+)((?:/[A-Za-z0-9._-]+)+)")
_DOTS: Final = frozenset({".", ".."})
_LAST_SECOND: Final = 253_402_300_799
_REGISTERED: Final = frozenset({"sub", "exp", "cnf", "iss", "iat", "jti", "nbf", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEntry:
    """Where a token's revocation can be looked up (draft-ietf-oauth-status-list, 6.2).

    Attributes:
        index: Its bit in the list.
        uri: The list.
    """

    index: int
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity:
    """What a token says.

    Attributes:
        subject: The workload's id.
        key: Its public key.
        expires_at: When the token ends (aware).
        issued_at: When it was made; None if it does not say.
        issuer: ``iss``; empty without. It names the trust domain and proves nothing.
        token_id: ``jti``; empty without.
        status: Where its revocation is told; None without.
        owner: Who is bound to the workload; empty without.
        capabilities: In canonical order.
        locator: Where it is reached; empty without.
        validation_methods: In canonical order.
    """

    subject: str
    key: PublicKey
    expires_at: datetime
    issued_at: datetime | None = None
    issuer: str = ""
    token_id: str = ""
    status: StatusEntry | None = None
    owner: str = ""
    capabilities: tuple[str, ...] = ()
    locator: str = ""
    validation_methods: tuple[str, ...] = ()


def require_workload_id(text: str) -> tuple[str, str]:
    """Return trust domain and path of a workload identifier (SPIFFE-ID, 2; WIMSE identifier).

    Identifiers are compared whole; this only says whether one is well formed.

    Raises:
        MalformedInput: ``workload-id-invalid`` for anything but ``spiffe://`` or ``wimse://`` with
            a trust domain and a path of plain segments: no query, fragment, user, port, percent
            sign, empty or dotted segment, or slash at the end.
    """
    found = _ID.fullmatch(text) if len(text) <= _MAX_ID_BYTES else None
    if (
        found is None
        or len(found[2]) > _MAX_DOMAIN
        or not _DOTS.isdisjoint(found[3].split("/")[1:])
    ):
        raise MalformedInput(
            RefusalCode.WORKLOAD_ID_INVALID,
            f"{text[:80]!a} is not spiffe:// or wimse:// with a trust domain and a plain path",
            structure="workload identifier",
        )
    return found[2], found[3]


def wit_claims(identity: WorkloadIdentity) -> dict[str, object]:
    """Return a token's claims, ready to be signed with ``typ`` :data:`TOKEN_TYPE`.

    Raises:
        MalformedInput: ``workload-id-invalid`` for a subject that is no workload id.
        ValueError: For a key of a kind that tokens cannot name.
    """
    require_workload_id(identity.subject)
    key = {**public_jwk(identity.key), "alg": algorithm_of(identity.key)}
    status = identity.status
    claims: dict[str, object] = {
        "sub": identity.subject,
        "exp": int(identity.expires_at.timestamp()),
        "cnf": {"jwk": key},
        "iss": identity.issuer,
        "iat": int(identity.issued_at.timestamp()) if identity.issued_at else None,
        "jti": identity.token_id,
        "status": {"status_list": {"idx": status.index, "uri": status.uri}} if status else None,
        OWNER_CLAIM: identity.owner,
        CAPABILITIES_CLAIM: list(identity.capabilities),
        LOCATOR_CLAIM: identity.locator,
        VALIDATION_METHODS_CLAIM: list(identity.validation_methods),
    }
    return {name: value for name, value in claims.items() if value}


def verify_wit(
    token: str,
    jwks: Mapping[str, object],
    *,
    trust_domain: str,
    at: datetime,
    leeway: timedelta = timedelta(0),
) -> WorkloadIdentity:
    """Check a token and read it.

    Args:
        token: Compact form.
        jwks: The trust domain's keys (RFC 7517), had from a place that the caller trusts.
        trust_domain: The one whose keys these are; the subject must be of it.
        at: Now (aware).
        leeway: By how much the two clocks may differ. Nothing is given beyond ``exp``.

    Raises:
        MalformedInput: ``workload-token-malformed``, ``workload-id-invalid``.
        SignatureInvalid: ``workload-token-invalid``, also for a subject of another trust domain.
        NotFresh: ``workload-token-expired``, also before ``iat`` or ``nbf``.
    """
    claimed = read_jws(token, kind=TOKEN_TYPE, limit=MAX_WORKLOAD_TOKEN_CHARS, wrong=_malformed)
    _require_signed(claimed, jwks)
    identity = _read(claimed.claims)
    if require_workload_id(identity.subject)[0] != trust_domain:
        raise _invalid("the subject is of another trust domain than the keys")
    begins = [_moment(claimed.claims, name) for name in ("iat", "nbf") if name in claimed.claims]
    if at >= identity.expires_at or any(at + leeway < moment for moment in begins):
        raise NotFresh(
            RefusalCode.WORKLOAD_TOKEN_EXPIRED,
            f"the token ends at {identity.expires_at.isoformat()}, judged at {at.isoformat()}",
            structure=_STRUCTURE,
        )
    return identity


def _require_signed(claimed: UnverifiedJws, jwks: Mapping[str, object]) -> None:
    keys = jwks.get("keys")
    if claimed.algorithm != ALGORITHM or not claimed.kid or not isinstance(keys, list | tuple):
        raise _invalid(f"it is not signed with {ALGORITHM}, names no kid, or there are no keys")
    named = [key for key in keys if isinstance(key, Mapping) and key.get("kid") == claimed.kid]
    if len(named) != 1:
        raise _invalid(f"{len(named)} keys of the trust domain have the token's kid, wanted one")
    try:
        key = key_of(named[0])
    except ValueError as error:
        raise _invalid(f"the key that kid names: {error}") from error
    if not claimed.signed_by(key):
        raise _invalid("the key that kid names did not make this signature")


def _read(claims: Mapping[str, Any]) -> WorkloadIdentity:
    if "aud" in claims:
        raise _malformed("has aud; it is for no audience, and proven by its key")
    foreign = [name for name in claims if name not in _REGISTERED and ":" not in name]
    if foreign:
        raise _malformed(f"has the claim {foreign[0][:40]!a}, which is not collision-resistant")
    cnf = claims.get("cnf")
    if not isinstance(cnf, dict) or cnf.keys() != {"jwk"} or not isinstance(cnf["jwk"], dict):
        raise _malformed("cnf does not hold a jwk and nothing else")
    try:
        key = key_of(cnf["jwk"])
    except ValueError as error:
        raise _malformed(f"cnf.jwk: {error}") from error
    if cnf["jwk"].get("alg") != algorithm_of(key):
        raise _malformed("cnf.jwk has no alg, or one that its key does not sign with")
    try:
        return WorkloadIdentity(
            subject=_text(claims, "sub", must=True),
            key=key,
            expires_at=_moment(claims, "exp"),
            issued_at=_moment(claims, "iat") if "iat" in claims else None,
            issuer=_text(claims, "iss"),
            token_id=_text(claims, "jti"),
            status=_status(claims["status"]) if "status" in claims else None,
            owner=require_owner_id(_text(claims, OWNER_CLAIM)) if OWNER_CLAIM in claims else "",
            capabilities=require_canonical(_words(claims, CAPABILITIES_CLAIM)),
            locator=require_locator(_text(claims, LOCATOR_CLAIM))
            if LOCATOR_CLAIM in claims
            else "",
            validation_methods=require_canonical(
                _words(claims, VALIDATION_METHODS_CLAIM), kind=VALIDATION_METHODS
            ),
        )
    except InputError as error:
        raise _malformed(error.reason) from error


def _status(value: object) -> StatusEntry:
    entry = value.get("status_list") if isinstance(value, dict) else None
    if isinstance(entry, dict):
        index, uri = entry.get("idx"), entry.get("uri")
        if type(index) is int and index >= 0 and isinstance(uri, str) and uri:
            return StatusEntry(index=index, uri=uri)
    raise _malformed("status names no bit of a status list")


def _text(claims: Mapping[str, Any], name: str, *, must: bool = False) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or (must and not value):
        raise _malformed(f"{name} is missing or no text")
    return value


def _words(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise _malformed(f"{name} is no list of words")
    return value


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= _LAST_SECOND:
        raise _malformed(f"{name} is missing, or no whole number of seconds since 1970")
    return datetime.fromtimestamp(value, UTC)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.WORKLOAD_TOKEN_MALFORMED, reason, structure=_STRUCTURE)


def _invalid(reason: str) -> SignatureInvalid:
    return SignatureInvalid(RefusalCode.WORKLOAD_TOKEN_INVALID, reason, structure=_STRUCTURE)
