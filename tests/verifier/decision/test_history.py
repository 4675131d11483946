"""Since when a device stands as it does, when it last was good, and what changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from attestation.result import TrustTier
from verifier.decision.history import history

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Past:
    at: datetime
    expires_at: datetime
    status: int
    vector: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def past(minute: int, status: int, *reasons: str, **claims: int) -> Past:
    at = START + minute * MINUTE
    return Past(at, at + 5 * MINUTE, status, claims, reasons)


GOOD = past(0, 2, executables=3)
STILL_GOOD = past(1, 2, executables=3)
BAD = past(2, 96, "log-replay-mismatch: PCR 4 …", "reference-missing: PCR 9 …", executables=96)
STILL_BAD = past(3, 96, "log-replay-mismatch: PCR 5 …", "reference-missing: x", executables=96)
OTHER = past(4, 96, "nonce-reused: again", hardware=99, executables=99)
AGAIN = past(5, 2, executables=3)


def test_device_without_results_has_no_history() -> None:
    told = history((), START)

    assert (told.status, told.since, told.last_good_at, told.transitions) == (None, None, None, ())
    assert not told.in_grace


def test_status_counts_from_its_first_result_in_a_row() -> None:
    told = history((STILL_BAD, BAD, STILL_GOOD, GOOD), STILL_BAD.at)

    assert told.status is TrustTier.CONTRAINDICATED
    assert told.since == BAD.at
    assert (told.last_good_at, told.last_good_until) == (STILL_GOOD.at, STILL_GOOD.expires_at)


def test_what_changed_is_told_once_with_its_reason() -> None:
    told = history((AGAIN, OTHER, STILL_BAD, BAD, STILL_GOOD, GOOD), AGAIN.at)

    mended, other, broke = told.transitions
    assert (broke.at, broke.before, broke.after) == (
        BAD.at,
        TrustTier.AFFIRMING,
        TrustTier.CONTRAINDICATED,
    )
    assert broke.appeared == ("log-replay-mismatch", "reference-missing")
    assert broke.why == "log-replay-mismatch: PCR 4 …"
    assert broke.claims == {"executables": (3, 96)}
    assert (other.appeared, other.disappeared) == (
        ("nonce-reused",),
        ("log-replay-mismatch", "reference-missing"),
    )
    assert other.claims == {"executables": (96, 99), "hardware": (0, 99)}
    assert (mended.after, mended.why, mended.disappeared) == (
        TrustTier.AFFIRMING,
        "",
        ("nonce-reused",),
    )


def test_never_good_is_no_moment() -> None:
    assert history((BAD,), BAD.at).last_good_at is None


@pytest.mark.parametrize(
    ("late", "grace", "stale", "in_grace"),
    [
        (-1, 60, 0, False),
        (0, 60, 0, True),
        (59, 60, 59, True),
        (60, 60, 60, False),
        (9, 0, 9, False),
    ],
)
def test_expired_result_is_late_for_its_grace_and_then_gone(
    late: int,
    grace: int,
    stale: int,
    in_grace: bool,  # noqa: FBT001 - a test parameter
) -> None:
    told = history(
        (GOOD,), GOOD.expires_at + timedelta(seconds=late), grace=timedelta(seconds=grace)
    )

    assert (told.stale_for, told.in_grace) == (timedelta(seconds=stale), in_grace)
