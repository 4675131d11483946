"""Bearer tokens of readers and operators: shown once, stored as SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attestation.base64url import base64url_text
from attestation.refusals import RefusalCode
from verifier.errors import NotFound, RequestRefused
from verifier.ports import AccessToken, Entropy, Store

ROLES: Final = ("reader", "operator")
SECRET_BYTES: Final = 32
PREFIX: Final = "dav_"
"""Begins every token, so that scanners for leaked secrets find one."""


class Tokens:
    """Makes, lists and removes tokens.

    Args:
        store: Where digests are kept.
        entropy: For secrets.
    """

    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy

    def create(self, name: str, role: str, at: datetime) -> str:
        """Make a token and return its secret, which is kept nowhere.

        Raises:
            RequestRefused: If the role is not known.
            Conflict: If the name is taken.
        """
        if role not in ROLES:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID, f"role {role!r} is not one of {', '.join(ROLES)}"
            )
        secret = PREFIX + base64url_text(self._entropy.take(SECRET_BYTES))
        digest = hashlib.sha256(secret.encode()).digest()
        with self._store.work() as work:
            work.put_token(AccessToken(name=name, role=role, sha256=digest, created_at=at))
        return secret

    def all(self) -> Sequence[AccessToken]:
        """Return all tokens by name, without their secrets."""
        return self._store.tokens()

    def remove(self, name: str) -> None:
        """Remove a token.

        Raises:
            NotFound: If there is none of that name.
        """
        with self._store.work() as work:
            if not work.remove_token(name):
                raise NotFound(RefusalCode.TOKEN_WRONG, f"no token is named {name!r}")
