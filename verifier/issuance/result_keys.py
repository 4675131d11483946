"""Keys of other verifiers whose results may be shown here, from JWK sets (RFC 7517, 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from attestation.wire.ear import ALGORITHM
from attestation.wire.jwk import algorithm_of, key_of, public_jwk
from attestation.wire.strict_json import parse_json

MAX_KEYS_OF_A_VERIFIER: Final = 64
"""Keys in one file; ours publish two, and those that retired a while ago."""

_STRUCTURE: Final = "JWK set"
_MAX_ID_CHARS: Final = 256


def read_result_keys(
    files: Iterable[tuple[str, bytes]],
) -> Mapping[str, Mapping[str, object]]:
    """Read the key sets that other verifiers publish.

    Whatever is in a file must be usable: a key passed over would be missed only when a device is
    refused.

    Args:
        files: Name and content of each; each content is ``{"keys": […]}``, every key a public
            P-256 signature key with a ``kid``.

    Returns:
        The keys by ``kid``.

    Raises:
        MalformedInput: ``policy-invalid``, naming the file and the key.
    """
    found: dict[str, Mapping[str, object]] = {}
    origins: dict[str, str] = {}
    for origin, content in files:
        for number, member in enumerate(_members(origin, content), 1):
            where = f"{origin}: key {number}"
            kid, key = _key(where, member)
            if kid in found:
                raise _invalid(f"{where} has the kid of a key in {origins[kid]}; wanted one each")
            found[kid], origins[kid] = key, origin
    return found


def _members(origin: str, content: bytes) -> list[object]:
    try:
        document = parse_json(content)
    except ValueError as error:
        raise _invalid(f"{origin} is not JSON: {error}") from error
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not 0 < len(members) <= MAX_KEYS_OF_A_VERIFIER:
        raise _invalid(
            f'{origin} is no JWK set: wanted {{"keys": […]}} with 1 to '
            f"{MAX_KEYS_OF_A_VERIFIER} keys, as a verifier's /.well-known/jwks.json has it"
        )
    return members


def _key(where: str, member: object) -> tuple[str, Mapping[str, object]]:
    """Return ``kid`` and the public members of a key that signs results."""
    if not isinstance(member, dict):
        raise _invalid(f"{where} is no JSON object")
    try:
        key = key_of(member)
    except ValueError as error:
        raise _invalid(f"{where}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm_of(key) != ALGORITHM:
        raise _invalid(f"{where} is not a P-256 key; results are signed with {ALGORITHM}")
    if member.get("use", "sig") != "sig" or member.get("alg", ALGORITHM) != ALGORITHM:
        raise _invalid(f'{where} is not for {ALGORITHM} signatures ("use", "alg")')
    kid = member.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_ID_CHARS:
        raise _invalid(f"{where} has no kid of 1 to {_MAX_ID_CHARS} characters")
    return kid, {**public_jwk(key), "kid": kid}


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.POLICY_INVALID, reason, structure=_STRUCTURE)
