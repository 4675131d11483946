"""Revocation by policy: what an event does, what time brings, what is published of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from attestation.refusals import RefusalCode
from tests.simulators.stored import AT, a_certificate, a_device, a_judgement, put_enrolment
from tests.verifier.services.revocation_yard import (
    DAY,
    DEFAULT,
    NAME,
    SILENT,
    of_ca,
    state,
    store,
    url,
)
from tests.verifier.store.credential_cases import an_agent
from verifier.errors import NotFound, Unavailable
from verifier.issuance.reasons import Reason
from verifier.issuance.revocation_policy import (
    UNKNOWN_EVENT,
    Action,
    Event,
    RevocationPolicy,
    Rule,
)
from verifier.services.issue import issued_entry
from verifier.services.revocation import Revocation
from verifier.store.sql_store import SqlStore, open_store

__all__ = ["store", "url"]


# --- events -------------------------------------------------------------------------------------
def test_contraindicated_evidence_fells_device_and_agents_with_the_result(store: SqlStore) -> None:
    told = DEFAULT.consequence(Event.CONTRAINDICATED, "log-replay-mismatch: PCR 4")

    assert store.record([replace(a_judgement(), consequence=told)]) == [True]

    assert state(store) == {"device": 9, "planner": 9}
    assert store.newest_result(NAME) is not None
    record, agent = store.device(NAME), store.agent(NAME, "planner")
    assert record is not None
    assert not record.enrolment.revoked
    assert agent is not None
    assert not agent.revoked_reason
    (alarm,) = store.alarms()
    assert (alarm.code, alarm.subject) == ("contraindicated", NAME)


def test_further_contraindicated_evidence_revokes_and_alarms_nothing(store: SqlStore) -> None:
    told = DEFAULT.consequence(Event.CONTRAINDICATED, "again")
    store.record([replace(a_judgement(), consequence=told)])
    revision, (alarm,) = store.revocation_revision(), store.alarms()
    with store.work() as work:
        work.see_alarm(alarm.number, AT)
    record = store.device(NAME)
    assert record is not None

    written = store.record([replace(a_judgement(seq=2, based_on=record.version), consequence=told)])

    assert written == [True]
    assert store.revocation_revision() == revision
    assert list(store.alarms()) == []


def test_judgement_that_is_not_written_revokes_nothing(store: SqlStore) -> None:
    told = DEFAULT.consequence(Event.CONTRAINDICATED, "stale")

    assert store.record([replace(a_judgement(based_on=7), consequence=told)]) == [False]

    assert state(store) == {"device": None, "planner": None}


def test_revocation_of_an_agent_leaves_its_device(store: SqlStore) -> None:
    outcome = Revocation(store, DEFAULT).holder(
        Event.AGENT_REMOVED, NAME, AT, agent="planner", why="not needed"
    )

    assert (outcome.action, outcome.revoked) == (Action.REVOKE_HOLDER, 1)
    assert state(store) == {"device": None, "planner": 5}
    agent = store.agent(NAME, "planner")
    assert agent is not None
    assert agent.revoked_reason == "agent-removed: not needed"


def test_operator_revokes_a_device_for_good_and_may_give_the_reason(store: SqlStore) -> None:
    Revocation(store, DEFAULT).holder(
        Event.OPERATOR, NAME, AT, why="stolen", reason=Reason.KEY_COMPROMISE
    )

    assert state(store) == {"device": 1, "planner": 1}
    record = store.device(NAME)
    assert record is not None
    assert record.revoked_reason == "operator: stolen"


def test_operator_revokes_one_certificate_and_nothing_else(store: SqlStore) -> None:
    revocation = Revocation(store, DEFAULT)
    (one,) = revocation.find("sn-0001/planner")

    assert revocation.certificate(Event.CERTIFICATE, one, AT).revoked == 1
    assert revocation.certificate(Event.CERTIFICATE, one, AT).revoked == 0
    assert state(store) == {"device": None, "planner": 0}


def test_unknown_event_alarms_and_revokes_nothing(store: SqlStore) -> None:
    revocation = Revocation(store, SILENT)
    (one,) = revocation.find("sn-0001/planner")

    outcomes = [
        revocation.holder("x-recall", NAME, AT, why="letter of the maker"),
        revocation.certificate("x-recall", one, AT),
    ]

    assert [one.event for one in outcomes] == [UNKNOWN_EVENT] * 2
    assert state(store) == {"device": None, "planner": None}
    assert {alarm.code for alarm in store.alarms()} == {UNKNOWN_EVENT}
    assert len(store.alarms()) == 2


def test_holder_that_is_not_here_is_refused_by_name(store: SqlStore) -> None:
    revocation = Revocation(store, DEFAULT)

    for given, code in (
        ({"name": "nobody"}, RefusalCode.DEVICE_UNKNOWN),
        ({"name": "sn-0001", "agent": "nobody"}, RefusalCode.AGENT_UNKNOWN),
    ):
        with pytest.raises(NotFound) as refused:
            revocation.holder(Event.OPERATOR, at=AT, **given)  # type: ignore[arg-type]
        assert refused.value.code is code


def test_certificates_are_found_by_every_name_they_have(store: SqlStore) -> None:
    revocation = Revocation(store, DEFAULT)
    device, agent = (one.certificate for one in store.certificates())

    for name, wanted in (
        (f"{device.serial:x}", device),
        (f"{device.serial:X}", device),
        (device.sha256.hex(), device),
        ("sn-0001", device),
        (device.holder, device),
        ("sn-0001/planner", agent),
        (agent.holder, agent),
    ):
        assert [one.certificate for one in revocation.find(name)] == [wanted]
    for name in ("nobody", "sn-0001/nobody", "ff", "0x_1", "spiffe://x", "_" * 64, ""):
        with pytest.raises(NotFound) as refused:
            revocation.find(name)
        assert refused.value.code is RefusalCode.CERTIFICATE_UNKNOWN


# --- what time brings ---------------------------------------------------------------------------
def test_older_certificate_falls_when_its_overlap_is_over(store: SqlStore) -> None:
    newer = of_ca(replace(a_certificate(a_device(version=1)), spki_sha256=bytes(32)))
    with store.work() as work:
        work.issue(newer, issued_entry(newer), AT)
        work.supersede(newer, AT + DAY, AT)
    revocation = Revocation(store, DEFAULT)

    assert revocation.tend(AT + DAY - timedelta(seconds=1)) == 0
    assert revocation.tend(AT + DAY) == 1
    assert revocation.tend(AT + DAY) == 0

    (old,) = [one for one in store.certificates() if one.revoked_at]
    assert (old.revoked_code, old.certificate.sha256) == (4, a_certificate(a_device()).sha256)


def test_agent_falls_on_its_day(store: SqlStore) -> None:
    with store.work() as work:
        work.put_agent(an_agent(decommission_at=AT + DAY, version=1))
    revocation = Revocation(store, DEFAULT)

    assert revocation.tend(AT) == 0
    assert revocation.tend(AT + DAY) == 1
    assert revocation.tend(AT + DAY) == 0

    assert state(store) == {"device": None, "planner": 5}
    agent = store.agent(NAME, "planner")
    assert agent is not None
    assert agent.revoked_reason == "decommission: its planned end has come"


def test_device_falls_on_its_day_with_its_agents(store: SqlStore) -> None:
    with store.work() as work:
        work.put_agent(an_agent(decommission_at=AT + DAY, version=1))
        assert work.decommission(NAME, AT + DAY, AT)
    revocation = Revocation(store, DEFAULT)

    assert revocation.tend(AT + DAY - timedelta(seconds=1)) == 0
    assert revocation.tend(AT + DAY) == 2
    assert revocation.tend(AT + DAY) == 0

    assert state(store) == {"device": 5, "planner": 5}
    record, agent = store.device(NAME), store.agent(NAME, "planner")
    assert record is not None
    assert record.enrolment.revoked
    assert record.revoked_reason == "decommission: its planned end has come"
    assert agent is not None
    assert agent.revoked_reason == "decommission: its planned end has come"


def test_planned_end_that_was_taken_back_does_not_come(store: SqlStore) -> None:
    with store.work() as work:
        assert work.decommission(NAME, AT + DAY, AT)
        assert work.decommission(NAME, None, AT)

    assert Revocation(store, DEFAULT).tend(AT + 9 * DAY) == 0

    assert state(store) == {"device": None, "planner": None}


def test_operator_hears_of_a_planned_end_if_the_policy_says_so(store: SqlStore) -> None:
    rule = replace(DEFAULT.rules[Event.DECOMMISSION], alarm=True)
    told = replace(DEFAULT, rules={**DEFAULT.rules, Event.DECOMMISSION: rule})
    with store.work() as work:
        assert work.decommission(NAME, AT + DAY, AT)

    assert Revocation(store, told).tend(AT + DAY) == 2

    (alarm,) = store.alarms()
    assert (alarm.code, alarm.subject) == ("decommission", NAME)


def test_planned_ends_under_a_silent_policy_alarm_and_wait(store: SqlStore) -> None:
    with store.work() as work:
        work.put_agent(an_agent(decommission_at=AT, version=1))
        assert work.decommission(NAME, AT, AT)
    revocation = Revocation(store, SILENT)

    assert revocation.tend(AT + DAY) == revocation.tend(AT + DAY) == 0

    (alarm,) = store.alarms()
    assert (alarm.code, alarm.subject) == (UNKNOWN_EVENT, "silent")
    assert "'decommission'" in alarm.reason
    assert state(store) == {"device": None, "planner": None}


def test_device_falls_when_nobody_has_seen_it_for_a_day(store: SqlStore) -> None:
    store.record([a_judgement()])  # believed for five minutes
    revocation = Revocation(store, DEFAULT)
    ended = AT + timedelta(minutes=5)

    assert revocation.sweep(ended + DAY - timedelta(seconds=1)) == 0
    assert revocation.sweep(ended + DAY) == 2
    assert revocation.sweep(ended + DAY) == 0

    assert state(store) == {"device": 9, "planner": 9}


def test_device_that_never_attested_counts_from_its_enrolment(store: SqlStore) -> None:
    assert Revocation(store, DEFAULT).sweep(AT + DAY) == 2


def test_stale_device_that_only_alarms_is_told_once_for_each_time_that_it_is_stale(
    store: SqlStore,
) -> None:
    rule = Rule(action=Action.ALARM, after=DAY, alarm=True)
    revocation = Revocation(store, RevocationPolicy(id="calm", rules={Event.STALE: rule}))

    def told(at: datetime) -> int:
        """Sweep for three minutes; the operator sees each alarm at once. Returns how many."""
        seen = 0
        for minute in range(3):
            revocation.sweep(at + timedelta(minutes=minute))
            with store.work() as work:
                seen += sum(work.see_alarm(one.number, at) for one in store.alarms())
        return seen

    assert told(AT + DAY) == 1
    assert told(AT + 2 * DAY) == 0
    back = a_judgement()
    result = replace(back.result, at=AT + 3 * DAY, expires_at=AT + 3 * DAY)
    assert store.record([replace(back, result=result)]) == [True]
    assert told(AT + 3.5 * DAY) == 0
    assert told(AT + 4 * DAY) == 1
    assert state(store) == {"device": None, "planner": None}


def test_sweep_goes_through_all_devices_page_by_page(store: SqlStore) -> None:
    with store.work() as work:
        for name in ("sn-0002", "sn-0003", "sn-0004", "sn-0005"):
            put_enrolment(work, a_device(name))
    revocation = Revocation(store, DEFAULT, page=2)

    pages = [revocation.sweep(AT + DAY)]
    while revocation.sweeping:
        pages.append(revocation.sweep(AT + DAY))

    assert pages == [3, 2, 1]


def test_store_that_fails_leaves_everything_due(store: SqlStore, url: str) -> None:
    revocation = Revocation(open_store(url + "-gone", with_outbox=False), DEFAULT)

    for act in (revocation.tend, revocation.sweep):
        with pytest.raises(Unavailable):
            act(AT + DAY)
    assert state(store) == {"device": None, "planner": None}
