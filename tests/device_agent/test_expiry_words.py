"""What is said, in time, of a certificate that may end before it is renewed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from device_agent.lifecycle import Credential, Fault
from device_agent.succession import span, worry

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIFE = 30 * DAY
CREDENTIAL = Credential(
    device_id="dev-a", certificate_chain_pem="", obtained_at=AT, not_after=AT + LIFE
)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (19, ""),
        (21.4, ""),
        (22, "it ends in 8 d 0 h; its renewal was due 2026-03-21T12:00:00+00:00"),
        (30, "it has ended"),
    ],
)
def test_a_certificate_that_is_not_renewed_worries_before_it_ends(days: float, words: str) -> None:
    assert worry(CREDENTIAL, AT + 20 * DAY, None, AT + days * DAY) == words


def test_a_renewal_that_failed_worries_at_once() -> None:
    fault = Fault(code="overloaded", reason="later", at=AT)

    words = worry(CREDENTIAL, AT + 20 * DAY, fault, AT + 20 * DAY)

    assert words == "it ends in 10 d 0 h; the last renewal failed: overloaded: later"


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(days=400, hours=5, minutes=9), "400 d 5 h"),
    ],
)
def test_a_length_of_time_is_said_in_two_units(length: timedelta, words: str) -> None:
    assert span(length) == words
