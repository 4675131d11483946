"""JWS in compact form (RFC 7515, 7.1) with a closed header: ``alg``, ``typ`` and perhaps ``kid``.

Any other header member is refused unless its reader names it, ``crit`` and keys inside the token
among them. Header and
payload have one reading only (:mod:`attestation.wire.strict_json`), and base64url has one writing,
so that a token cannot be changed and still hold.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from attestation.base64url import base64url
from attestation.errors import AttestationError
from attestation.wire.jwk import PublicKey, algorithm_of
from attestation.wire.strict_json import parse_json

_HEADER: Final = frozenset({"alg", "typ", "kid"})

Refuse = Callable[[str], AttestationError]
"""Makes the error for a token that is malformed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedJws:
    """A token whose form holds and whose signature nobody has looked at.

    Attributes:
        token: As it came.
        algorithm: ``alg``.
        kid: ``kid``; empty without one.
        claims: The payload.
        header: The header, whole.
    """

    token: str
    algorithm: str
    kid: str
    claims: Mapping[str, Any]
    header: Mapping[str, Any]

    def signed_by(self, key: PublicKey) -> bool:
        """Return whether a key made the signature, by the one algorithm that it signs with."""
        try:
            wanted = algorithm_of(key)
            if self.algorithm != wanted:
                return False
            jwt.PyJWS(algorithms=[wanted]).decode(self.token, key, algorithms=[wanted])
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        return True


def read_jws(
    token: str,
    *,
    kind: str,
    limit: int,
    wrong: Refuse,
    also: frozenset[str] = frozenset(),
) -> UnverifiedJws:
    """Take a token apart.

    Args:
        token: Compact form.
        kind: ``typ``, exactly.
        limit: Most characters.
        wrong: Makes the error to raise.
        also: Further header members that are taken.

    Raises:
        AttestationError: What ``wrong`` makes.
    """
    if len(token) > limit:
        raise wrong(f"has {len(token)} characters, at most {limit} are accepted")
    parts = token.split(".") if token.isascii() else []
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        raise wrong("is not a JWS in compact form")
    try:
        header, claims, _ = (_decoded(part) for part in parts)
        head, payload = parse_json(header), parse_json(claims)
    except ValueError as error:
        raise wrong(f"cannot be read: {str(error)[:80]}") from error
    if not isinstance(head, dict) or not isinstance(payload, dict):
        raise wrong("has a header or payload that is no JSON object")
    taken = _HEADER | also
    unknown = sorted(head.keys() - taken)
    if unknown:
        raise wrong(
            f"has the header member {unknown[0][:40]!a}; {', '.join(sorted(taken))} are taken"
        )
    if head.get("typ") != kind:
        raise wrong(f"has another typ than {kind!r}")
    algorithm, kid = head.get("alg"), head.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(kid, str):
        raise wrong("has an alg or kid that is no text")
    return UnverifiedJws(token=token, algorithm=algorithm, kid=kid, claims=payload, header=head)


def _decoded(part: str) -> bytes:
    try:
        content = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("a part is not base64url") from error
    if base64url(content).decode() != part:
        raise ValueError("a part is not base64url without padding")
    return content
