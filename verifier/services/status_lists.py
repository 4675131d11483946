"""Status lists: the bits of certificates and their tokens, made from the store when asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from attestation.refusals import RefusalCode
from verifier.errors import NotFound
from verifier.issuance.status_list import TOKEN_TYPE, bounds, status_claims
from verifier.ports import Store
from verifier.services.workload_tokens import TokenSigner

MAX_KEPT: Final = 64
"""Lists kept in memory; each speaks of 131 072 certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusList:
    """One signed list.

    Attributes:
        token: The JWT.
        at: When it was made.
        revision: The store's revision that it covers.
    """

    token: str
    at: datetime
    revision: int


class StatusLists:
    """The use case.

    Args:
        store: What is revoked.
        signer: The keys that sign results; the key set that is served has them.
        url: Returns a list's URL, as tokens name it.
        lifetime: How long a list is believed; not longer than retired keys are served.
    """

    def __init__(
        self,
        store: Store,
        signer: TokenSigner,
        url: Callable[[int], str],
        lifetime: timedelta,
    ) -> None:
        self._store = store
        self._signer = signer
        self._url = url
        self._lifetime = lifetime
        self._kept: OrderedDict[int, StatusList] = OrderedDict()
        self._making = threading.Lock()

    def current(self, number: int, at: datetime) -> StatusList:
        """Return a list as the store is now.

        One thread makes a list that is not there; who asks meanwhile waits for it.

        Raises:
            NotFound: ``status-list-unknown`` if no certificate has a number in it yet.
            Unavailable: If the store cannot be asked.
        """
        if (kept := self._good(number, at)[0]) is not None:
            return kept
        with self._making:
            # The revision first: what is revoked after it makes the list only newer than it says.
            kept, revision = self._good(number, at)
            return kept or self._make(number, revision, at)

    def _good(self, number: int, at: datetime) -> tuple[StatusList | None, int]:
        """Return the list that is kept if it is as the store is now, and the store's revision."""
        revision = self._store.revocation_revision()
        kept = self._kept.get(number)
        good = kept is not None and kept.revision == revision
        return kept if good and kept and at < kept.at + self._lifetime / 2 else None, revision

    def _make(self, number: int, revision: int, at: datetime) -> StatusList:
        first, last = bounds(number)
        head = self._store.log_head()
        if number < 0 or first > (head.number if head else 0):
            raise NotFound(
                RefusalCode.STATUS_LIST_UNKNOWN,
                f"there is no status list {number}: no certificate has a number in it",
            )
        claims = status_claims(
            number,
            self._store.revoked_numbers(first, last),
            url=self._url(number),
            at=at,
            lifetime=self._lifetime,
        )
        token = self._signer.sign_token(claims, TOKEN_TYPE)
        made = StatusList(token=token, at=at, revision=revision)
        self._kept[number] = made
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return made
