"""Owners: in whose name an AI agent may act, by what key, and with what at most.

Kept as JSON: ``{"key": PEM of the public key, "scope": [* word] | null}``; null is no bound.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from attestation.capabilities import require_canonical
from attestation.errors import InputError, MalformedInput
from attestation.refusals import RefusalCode
from attestation.wire.owner_binding import OwnerKey, read_owner_key, require_owner_id
from attestation.wire.strict_json import parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One owner.

    Attributes:
        name: Its id, as bindings name it.
        key: What its bindings are signed by.
        scope: What it may give at most, in canonical order; None for no bound of its own.
    """

    name: str
    key: OwnerKey
    scope: tuple[str, ...] | None = None


def pack_owner(key_pem: str, scope: tuple[str, ...] | None) -> str:
    """Return an owner's document."""
    return json.dumps({"key": key_pem, "scope": None if scope is None else list(scope)})


def load_owner(name: str, document: str) -> Owner:
    """Read an owner's document.

    Raises:
        MalformedInput: ``owner-binding-malformed`` for an id that is none, ``key-malformed``,
            ``key-too-weak``, or ``capability-invalid`` for its scope.
    """
    require_owner_id(name)
    try:
        found = parse_json(document.encode())
    except ValueError as error:
        raise _malformed(name) from error
    if not isinstance(found, dict) or found.keys() != {"key", "scope"}:
        raise _malformed(name)
    pem, scope = found["key"], found["scope"]
    words = scope if isinstance(scope, list) else []
    if (
        not isinstance(pem, str)
        or not (scope is None or isinstance(scope, list))
        or not all(isinstance(word, str) for word in words)
    ):
        raise _malformed(name)
    try:
        bound = None if scope is None else require_canonical(words)
    except InputError as error:
        raise error.told_of(f"owner {name}") from error
    return Owner(name=name, key=read_owner_key(pem, name), scope=bound)


def _malformed(name: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.KEY_MALFORMED, "not the document of an owner", structure=f"owner {name[:80]}"
    )
