"""What is due for an AI agent, and when: the rules, with no TPM and no verifier."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attestation.identity import agent_name
from device_agent.agent_ports import AgentReply, TokenReply
from device_agent.agents import AgentRecord, Due, due, failed, refreshed, renewed, troubles
from device_agent.lifecycle import Fault, Moment
from device_agent.pacing import Pacing, Renewal
from device_agent.transport.backoff import Backoff
from tests.simulators.soft_device import SoftTpm

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
PACING = Pacing(
    backoff=Backoff(base_s=1, cap_s=60),
    refused_s=600,
    interval_min_s=2,
    interval_max_s=100,
    renewal=Renewal(share=0.5, spread=0.2),
)
BARE = AgentRecord(name=agent_name("planner"), key=SoftTpm().create_wrapped())


def moment(at: datetime = AT, jitter: float = 0.5) -> Moment:
    return Moment(at=at, elapsed_s=0, jitter=jitter)


def token(text: str, until: datetime) -> TokenReply:
    return TokenReply(token=text, expires_at=until)


def reply(at: datetime = AT, **more: object) -> AgentReply:
    answer = AgentReply(
        agent_id="spiffe://e.test/device/d/agent/planner",
        certificate_chain_pem="pem",
        not_before=at,
        not_after=at + 10 * DAY,
        owner="",
        capabilities=(),
        token=token("t", at + HOUR),
    )
    return replace(answer, **more)  # type: ignore[arg-type]


def certified(jitter: float = 0.5) -> AgentRecord:
    return renewed(BARE, reply(), moment(jitter=jitter), PACING)


def test_nothing_is_due_before_a_certificate_was_asked_for() -> None:
    assert due(BARE, AT) is Due.NOTHING
    assert due(replace(BARE, asked=True), AT) is Due.CERTIFICATE


@pytest.mark.parametrize(("jitter", "days"), [(0.0, 5), (0.5, 6), (1.0, 7)])
def test_a_certificate_is_renewed_at_its_share_of_life_and_the_jitter(
    jitter: float, days: int
) -> None:
    record = refreshed(certified(jitter), token("t", AT + 30 * DAY), moment())

    assert due(record, AT + days * DAY - HOUR) is Due.NOTHING
    assert due(record, AT + days * DAY) is Due.CERTIFICATE


def test_a_token_is_refreshed_when_two_thirds_of_its_life_are_over() -> None:
    assert due(certified(), AT + timedelta(minutes=39)) is Due.NOTHING
    assert due(certified(), AT + timedelta(minutes=41)) is Due.TOKEN
    fresh = refreshed(certified(), token("u", AT + 2 * HOUR), moment(AT + HOUR))
    assert due(fresh, AT + HOUR + timedelta(minutes=39)) is Due.NOTHING


def test_a_certificate_that_was_asked_for_is_due_whatever_its_age() -> None:
    assert due(replace(certified(), asked=True), AT) is Due.CERTIFICATE
    assert renewed(replace(certified(), asked=True), reply(), moment(), PACING).asked is False


def test_a_failure_that_time_mends_is_tried_again_soon_and_each_time_later() -> None:
    record, pauses = certified(), []
    for _ in range(8):
        record = failed(
            record, Fault(code="overloaded", reason="later", at=AT), moment(jitter=1), PACING
        )
        assert record.retry_at is not None
        pauses.append((record.retry_at - AT).total_seconds())

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    "code", ["scope-exceeded", "owner-binding-expired", "agent-revoked", "tpm-refused"]
)
def test_a_refusal_that_a_person_must_mend_is_left_alone_for_long(code: str) -> None:
    record = failed(certified(), Fault(code=code, reason="no", at=AT), moment(), PACING)
    later = AT + 6 * DAY

    again = failed(record, Fault(code=code, reason="no", at=later), moment(later), PACING)

    assert due(again, later + timedelta(minutes=8)) is Due.NOTHING
    assert due(again, later + timedelta(minutes=11)) is Due.CERTIFICATE


def test_a_clock_that_went_back_is_not_waited_for() -> None:
    record = certified()
    assert due(record, AT - 400 * DAY) is Due.CERTIFICATE
    troubled = failed(
        record, Fault(code="overloaded", reason="x", at=AT), moment(AT + 400 * DAY), PACING
    )
    assert due(troubled, AT - HOUR) is Due.CERTIFICATE


def test_success_ends_the_fault() -> None:
    troubled = failed(certified(), Fault(code="overloaded", reason="x", at=AT), moment(), PACING)

    for done in (
        renewed(troubled, reply(), moment(), PACING),
        refreshed(troubled, token("u", AT + HOUR), moment()),
    ):
        assert (done.fault, done.failures, done.retry_at) == (None, 0, None)


def test_trouble_is_told_by_agent_and_why() -> None:
    fault = Fault(code="scope-exceeded", reason="no", at=AT)
    troubled = failed(certified(), fault, moment(), PACING)

    assert troubles((certified(), BARE), AT) == ()
    assert troubles((troubled,), AT) == ("planner: the last request failed: scope-exceeded: no",)
    assert troubles((troubled,), AT + 11 * DAY) == (
        "planner: its certificate has ended: scope-exceeded: no",
    )


def test_what_is_written_of_a_record_shows_neither_token_nor_wrapped_key() -> None:
    words = repr(renewed(BARE, reply(token=token("s3cr3t", AT)), moment(), PACING))

    assert "s3cr3t" not in words
    assert repr(BARE.key.private) not in words
