"""Planned ends: who sets them, that no enrolment pushes them out, and what comes after."""

from __future__ import annotations

from datetime import timedelta

import pytest

from attestation.errors import InputError
from tests.simulators.stored import AT, a_device
from tests.verifier.services.revocation_yard import DAY, NAME, store, url
from tests.verifier.store.credential_cases import an_agent
from verifier.errors import NotAuthorised, NotFound, ServiceError
from verifier.services.decommission import Decommission, earliest, lifetime_until, planned_end
from verifier.store.sql_store import SqlStore

__all__ = ["store", "url"]

HOUR = timedelta(hours=1)


def test_first_enrolment_sets_the_end_by_class() -> None:
    assert planned_end(None, 30 * DAY, AT) == AT + 30 * DAY
    assert planned_end(None, None, AT) is None


@pytest.mark.parametrize("after", [DAY, 300 * DAY, None])
def test_later_enrolment_does_not_move_the_end(after: timedelta | None) -> None:
    known = an_agent(decommission_at=AT + 30 * DAY)

    assert planned_end(known, after, AT + 9 * DAY) == AT + 30 * DAY


def test_one_enrolled_before_its_class_said_so_counts_from_now() -> None:
    assert planned_end(a_device(), DAY, AT + HOUR) == AT + HOUR + DAY


def test_class_says_nothing_to_an_operators_never() -> None:
    assert planned_end(an_agent(decommission_told=True), DAY, AT) is None


def test_certificate_lasts_no_longer_than_its_device() -> None:
    def last(ends_in: timedelta | None) -> timedelta:
        ends = None if ends_in is None else AT + ends_in
        return lifetime_until(DAY, ends, AT, shortest=HOUR, device="sn-0001")

    assert (last(None), last(9 * DAY), last(5 * HOUR), last(HOUR)) == (DAY, DAY, 5 * HOUR, HOUR)
    for ends_in in (HOUR - timedelta(seconds=1), timedelta(0), -DAY):
        with pytest.raises(NotAuthorised) as refused:
            last(ends_in)
        assert refused.value.code == "device-decommissioned"


def test_the_earliest_of_what_is_planned_counts() -> None:
    assert earliest(None, AT + DAY, AT) == AT
    assert earliest(None, None) is None


def test_operator_sets_and_takes_back(store: SqlStore) -> None:
    said = Decommission(store)

    assert said.plan(NAME, AT + DAY, AT) == "sn-0001"
    assert said.plan(NAME, AT + DAY, AT, agent="planner") == "sn-0001/planner"
    record, agent = store.device(NAME), store.agent(NAME, "planner")
    assert record is not None
    assert agent is not None
    assert record.decommission_at == agent.decommission_at == AT + DAY
    said.plan(NAME, None, AT)
    record = store.device(NAME)
    assert record is not None
    assert (record.decommission_at, record.decommission_told) == (None, True)


@pytest.mark.parametrize(
    ("device", "agent", "code"),
    [("nobody", "", "device-unknown"), ("nobody", "planner", "device-unknown"),
     ("sn-0001", "nobody", "agent-unknown")],
)  # fmt: skip
def test_who_is_not_there_has_no_end(store: SqlStore, device: str, agent: str, code: str) -> None:
    with pytest.raises(NotFound) as refused:
        Decommission(store).plan(device, AT + DAY, AT, agent=agent)
    assert refused.value.code == code


@pytest.mark.parametrize(("device", "agent"), [("NO/BODY", ""), ("sn-0001", "-")])
def test_names_that_are_none_are_malformed(store: SqlStore, device: str, agent: str) -> None:
    with pytest.raises(InputError):
        Decommission(store).plan(device, AT + DAY, AT, agent=agent)


def test_what_is_revoked_gets_no_date(store: SqlStore) -> None:
    with store.work() as work:
        work.revoke(NAME, "sold", AT)

    for agent, code in (("", "device-revoked"), ("planner", "agent-revoked")):
        with pytest.raises(ServiceError) as refused:
            Decommission(store).plan(NAME, None, AT, agent=agent)
        assert refused.value.code == code
