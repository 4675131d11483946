"""EAT Attestation Results: one dialect-neutral value, three dialects on the wire.

draft-ietf-rats-ear is written in three ways by living programs: D1 (veraison, dotted names),
D2 (drafts -01 and -02, dotted names) and D3 (draft -03, underscores, ``ear_status`` for the whole,
policy ids as an array, a nonce per appraisal). All are read; D3 is written unless asked otherwise.
``cnf`` (RFC 7800) is a claim of the JWT, so it has one name in all three.
Unknown claims are ignored, as the draft requires. A status better than its own vector, or than
its worst submodule, is refused.

Everything here is offered by :mod:`attestation.wire.ear`; import it from there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from attestation.base64url import base64url_text
from attestation.errors import MalformedInput, Unsupported
from attestation.identity import KeyName
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier, TrustVector, tier_of
from attestation.wire.ear_values import Ear, EarAppraisal, EarProfile, VerifierIdentity

REASONS_CLAIM: Final = "device_attestation_reasons"
"""Our extension claim of an appraisal: why it is not affirming, worst first."""

MAX_SUBMODS: Final = 64
"""Appraisals in one EAR; ours have one."""

_STRUCTURE: Final = "EAR"
_LAST_SECOND: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last moment a datetime can hold."""

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{8,88}")
_NONCE_BYTES: Final = range(8, 65)
_NUMBER: Final = re.compile(r"-?[0-9]{1,3}")
_TIERS: Final = {tier.label: tier for tier in TrustTier}


_PROFILES: Final[Mapping[str, EarProfile]] = {
    **{profile.value: profile for profile in EarProfile},
    "tag:github.com,2024:confidential-containers/Trustee": EarProfile.VERAISON,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The claim names of one dialect; None where the dialect has no such claim."""

    status: str
    vector: str
    verifier: str
    policy: str
    policy_is_array: bool
    global_status: str | None


_DOTTED: Final = _Names(
    status="ear.status",
    vector="ear.trustworthiness-vector",
    verifier="ear.verifier-id",
    policy="ear.appraisal-policy-id",
    policy_is_array=False,
    global_status=None,
)
_UNDERSCORED: Final = _Names(
    status="ear_status",
    vector="ear_trustworthiness_vector",
    verifier="ear_verifier_id",
    policy="ear_appraisal_policy_ids",
    policy_is_array=True,
    global_status="ear_status",
)


def nonce_text(nonce: bytes) -> str:
    """Return a nonce as ``eat_nonce`` has it: base64url without padding (RFC 9711 section 4.1).

    Raises:
        ValueError: If the nonce is not 8 to 64 bytes.
    """
    if len(nonce) not in _NONCE_BYTES:
        raise ValueError(f"a nonce of {len(nonce)} bytes cannot be an eat_nonce of 8 to 64")
    return base64url_text(nonce)


def key_id_text(name: KeyName) -> str:
    """Return a key's TPM Name as ``cnf.kid`` has it: base64url without padding.

    A Name is the digest of the whole public area (TPM 2.0 Part 1, 16): it binds the key and what
    the TPM lets it do. It is public.
    """
    return base64url_text(name)


def encode_ear(
    result: AttestationResult,
    *,
    verifier: VerifierIdentity,
    issued_at: datetime,
    expires_at: datetime,
    profile: EarProfile = EarProfile.DRAFT_03,
    ak_name: KeyName | None = None,
) -> dict[str, object]:
    """Return the claims of one result, ready to be signed as a JWT.

    Args:
        result: What was concluded about one device; its id labels the one submodule.
        verifier: Who concludes.
        issued_at: ``iat``, aware; written in whole seconds.
        expires_at: ``exp``, aware, later than ``issued_at``.
        profile: The dialect to write.
        ak_name: The attestation key that was proven to have signed the evidence; None if no key
            was. Written as ``cnf.kid``, so that whoever shows the result elsewhere can be held
            to the key (RFC 7800).

    Raises:
        ValueError: If the moments are naive or out of order, or the nonce is no EAT nonce.
    """
    if issued_at.tzinfo is None or expires_at.tzinfo is None or expires_at <= issued_at:
        raise ValueError("issued_at and expires_at must be aware, and in this order")
    names = _names(profile)
    began = int(issued_at.timestamp())
    status = result.status.label
    appraisal: dict[str, object] = {names.status: status}
    if vector := result.vector.as_claims():
        appraisal[names.vector] = vector
    appraisal[names.policy] = [result.policy_id] if names.policy_is_array else result.policy_id
    if reasons := result.reasons:
        appraisal[REASONS_CLAIM] = list(reasons)
    claims: dict[str, object] = {
        "eat_profile": profile.value,
        "iat": began,
        "exp": int(expires_at.timestamp()),
        "jti": _token_id(result, f"{began}.{issued_at.microsecond}"),
        "sub": result.device,
        names.verifier: {"developer": verifier.developer, "build": verifier.build},
        "submods": {result.device: appraisal},
    }
    if names.global_status is not None:
        claims[names.global_status] = status
    if ak_name is not None:
        claims["cnf"] = {"kid": key_id_text(ak_name)}
    if result.nonce:
        place = appraisal if profile is EarProfile.DRAFT_03 else claims
        place["eat_nonce"] = nonce_text(result.nonce)
    return claims


def decode_ear(claims: Mapping[str, object]) -> Ear:
    """Read the claims of an EAR in any of the three dialects.

    Signature and expiry are not judged here: see :func:`attestation.wire.ear.verify_ear_jwt`.

    Raises:
        MalformedInput: If a claim is missing, of the wrong kind, or better than what it is made
            of (``result-malformed``).
        Unsupported: If ``eat_profile`` is none of the three (``unsupported-version``).
    """
    profile = _profile(claims.get("eat_profile"))
    names = _names(profile)
    shared_nonce = _nonce(claims)
    submods = _submods(claims.get("submods"), names, shared_nonce)
    worst = max(appraisal.status for appraisal in submods.values())
    status = worst
    if names.global_status is not None and names.global_status in claims:
        status = _status(claims[names.global_status])
        if status < worst:
            raise _malformed(f"the status is {status.label}, its worst submod is {worst.label}")
    expires = claims.get("exp")
    return Ear(
        profile=profile,
        issued_at=_moment("iat", claims.get("iat")),
        expires_at=None if expires is None else _moment("exp", expires),
        verifier=_verifier(claims.get(names.verifier)),
        status=status,
        submods=submods,
        subject=_optional_text("sub", claims),
        token_id=_optional_text("jti", claims),
        key_id=_key_id(claims.get("cnf")),
    )


def _token_id(result: AttestationResult, moment: str) -> str:
    """Return a ``jti`` that is the same for the same result at the same moment, and no other."""
    named = f"{result.device}\n{result.policy_id}\n{moment}\n"
    digest = hashlib.sha256(named.encode() + result.evidence_digest).digest()
    return base64url_text(digest[:18])


def _names(profile: EarProfile) -> _Names:
    return _UNDERSCORED if profile is EarProfile.DRAFT_03 else _DOTTED


def _profile(value: object) -> EarProfile:
    if not isinstance(value, str):
        raise _malformed("eat_profile is missing or not text")
    profile = _PROFILES.get(value)
    if profile is None:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_VERSION,
            f"eat_profile {value[:80]!r} is not one of {', '.join(_PROFILES)}",
            structure=_STRUCTURE,
        )
    return profile


def _moment(name: str, value: object) -> datetime:
    """Read a NumericDate; integral floats are tolerated (the drafts' own sample has one)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= _LAST_SECOND:
        raise _malformed(f"{name} is missing or not a whole number of seconds since 1970")
    return datetime.fromtimestamp(value, UTC)


def _verifier(value: object) -> VerifierIdentity:
    if isinstance(value, Mapping):
        developer, build = value.get("developer"), value.get("build")
        if isinstance(developer, str) and isinstance(build, str):
            return VerifierIdentity(developer=developer, build=build)
    raise _malformed("the verifier id is not an object with the texts developer and build")


def _submods(value: object, names: _Names, shared_nonce: str | None) -> Mapping[str, EarAppraisal]:
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_SUBMODS:
        raise _malformed(f"submods is not an object of 1 to {MAX_SUBMODS} appraisals")
    submods: dict[str, EarAppraisal] = {}
    for label, appraisal in value.items():
        if not isinstance(label, str) or not isinstance(appraisal, Mapping):
            raise _malformed("a submod is not a labelled object")
        submods[label] = _appraisal(appraisal, names, shared_nonce)
    return submods


def _appraisal(
    claims: Mapping[str, object], names: _Names, shared_nonce: str | None
) -> EarAppraisal:
    status = _status(claims.get(names.status))
    vector = _vector(claims.get(names.vector))
    if status < vector.status:
        raise _malformed(f"a status is {status.label}, its worst claim {vector.status.label}")
    return EarAppraisal(
        status=status,
        vector=vector,
        policy_ids=_policy_ids(claims.get(names.policy), names),
        nonce=_nonce(claims) or shared_nonce,
        reasons=_texts(REASONS_CLAIM, claims.get(REASONS_CLAIM, [])),
    )


def _status(value: object) -> TrustTier:
    tier = _TIERS.get(value) if isinstance(value, str) else None
    if tier is None:
        raise _malformed(f"a status is missing or not one of {', '.join(_TIERS)}")
    return tier


def _vector(value: object) -> TrustVector:
    if value is None:
        return TrustVector()
    if not isinstance(value, Mapping):
        raise _malformed("a trustworthiness vector is not an object")
    return TrustVector.from_claims(
        {str(name): _claim_value(str(name), number) for name, number in value.items()}
    )


def _claim_value(name: str, value: object) -> int:
    """Read an int8, also written as a number string (go-ear accepts and some emit those)."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if type(value) is int:
        try:
            tier_of(value)
        except ValueError as error:
            raise _malformed(f"claim {name[:40]!r} is {value}, wanted -128 to 127") from error
        return value
    raise _malformed(f"claim {name[:40]!r} is a {type(value).__name__}, wanted a whole number")


def _policy_ids(value: object, names: _Names) -> tuple[str, ...]:
    if value is None:
        return ()
    if not names.policy_is_array:
        return _texts(names.policy, [value])
    policies = _texts(names.policy, value)
    if not policies:
        raise _malformed(f"{names.policy} is an empty array")
    return policies


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise _malformed(f"{name} is not an array of text")
    texts = tuple(item for item in value if isinstance(item, str))
    if len(texts) != len(value):
        raise _malformed(f"{name} holds something that is not text")
    return texts


def _nonce(claims: Mapping[str, object]) -> str | None:
    value = claims.get("eat_nonce")
    if value is None:
        return None
    if not isinstance(value, str) or not _NONCE.fullmatch(value):
        raise _malformed("eat_nonce is not 8 to 88 base64url characters")
    return value


def _key_id(value: object) -> str | None:
    """Read ``cnf.kid``; another way to name the key (``jwk``, ``jwe``) is passed over."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _malformed("cnf is not an object")
    return _optional_text("kid", value)


def _optional_text(name: str, claims: Mapping[str, object]) -> str | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        raise _malformed(f"{name} is not text")
    return value


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.RESULT_MALFORMED, reason, structure=_STRUCTURE)
