"""A device's results over time: how it stands since when, when it last was good, what changed.

Pure: results and the moment are given, values come back. An expired result is stale; for a grace
period after that, whoever may tell "late" from "gone" can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, Protocol

from attestation.result import TrustTier

NO_GRACE: Final = timedelta(0)


class Past(Protocol):
    """One result, as far as history needs it; a stored result is one."""

    @property
    def at(self) -> datetime:
        """When it was judged (aware)."""
        ...

    @property
    def expires_at(self) -> datetime:
        """From when on it is not believed (aware)."""
        ...

    @property
    def status(self) -> int:
        """AR4SI tier number (0, 2, 32, 96)."""
        ...

    @property
    def vector(self) -> Mapping[str, int]:
        """The claims."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """``code: reason`` lines."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change from a result to the next one.

    Attributes:
        at: When the later one was judged.
        before: Status before.
        after: Status after.
        appeared: Codes of reasons that were not there before, sorted.
        disappeared: Codes that are not there any more, sorted.
        claims: Claims whose value changed: (before, after), 0 where a claim was not made.
        why: The first new reason, in full; empty if none is new.
    """

    at: datetime
    before: TrustTier
    after: TrustTier
    appeared: tuple[str, ...]
    disappeared: tuple[str, ...]
    claims: Mapping[str, tuple[int, int]]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a device's results tell at one moment.

    Attributes:
        status: The newest status; None without any result.
        since: The oldest of the newest results in a row that have this status; None without any.
        last_good_at: When it was affirming for the last time; None if not in these results.
        last_good_until: Until when that was believed.
        stale_for: For how long the newest result has been expired; zero while it is believed.
        in_grace: Whether it is expired, but for less than the grace period.
        complete: Whether these are all results; if not, ``since`` may be earlier and an absent
            ``last_good_at`` may lie before them.
        transitions: What changed, newest first.
    """

    status: TrustTier | None
    since: datetime | None
    last_good_at: datetime | None
    last_good_until: datetime | None
    stale_for: timedelta
    in_grace: bool
    complete: bool
    transitions: tuple[Transition, ...]


def history(
    newest_first: Sequence[Past],
    at: datetime,
    *,
    grace: timedelta = NO_GRACE,
    complete: bool = True,
) -> History:
    """Sum up a device's results.

    Args:
        newest_first: Results in descending order, as the store gives them.
        at: The moment of asking (aware).
        grace: For how long after its end a result is late and not yet gone.
        complete: Whether the results go back to the first one.
    """
    if not newest_first:
        return History(
            status=None,
            since=None,
            last_good_at=None,
            last_good_until=None,
            stale_for=timedelta(0),
            in_grace=False,
            complete=complete,
            transitions=(),
        )
    newest = newest_first[0]
    good = next((one for one in newest_first if one.status == TrustTier.AFFIRMING), None)
    stale_for = max(at - newest.expires_at, timedelta(0))
    expired = at >= newest.expires_at
    return History(
        status=TrustTier(newest.status),
        since=_since(newest_first),
        last_good_at=good.at if good is not None else None,
        last_good_until=good.expires_at if good is not None else None,
        stale_for=stale_for,
        in_grace=expired and stale_for < grace,
        complete=complete,
        transitions=tuple(
            change
            for after, before in pairwise(newest_first)
            if (change := _transition(before, after)) is not None
        ),
    )


def _since(newest_first: Sequence[Past]) -> datetime:
    since = newest_first[0].at
    for one in newest_first:
        if one.status != newest_first[0].status:
            break
        since = one.at
    return since


def _transition(before: Past, after: Past) -> Transition | None:
    """Return what changed between two results in a row; None if nothing that matters did."""
    old, new = _codes(before.reasons), _codes(after.reasons)
    claims = {
        claim: (before.vector.get(claim, 0), after.vector.get(claim, 0))
        for claim in sorted(before.vector.keys() | after.vector.keys())
        if before.vector.get(claim, 0) != after.vector.get(claim, 0)
    }
    if before.status == after.status and old.keys() == new.keys() and not claims:
        return None
    fresh = [code for code in new if code not in old]
    return Transition(
        at=after.at,
        before=TrustTier(before.status),
        after=TrustTier(after.status),
        appeared=tuple(sorted(fresh)),
        disappeared=tuple(sorted(old.keys() - new.keys())),
        claims=claims,
        why=new[fresh[0]] if fresh else "",
    )


def _codes(reasons: Sequence[str]) -> dict[str, str]:
    """Return the first reason of each code, worst first as they come."""
    found: dict[str, str] = {}
    for reason in reasons:
        found.setdefault(reason.partition(": ")[0], reason)
    return found
