"""The operator's commands about certificates, alarms, revocation policies and the issuance log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.simulators.command_line import Run, runner
from tests.simulators.stored import AT, a_certificate, a_device
from tests.verifier.services.revocation_yard import agents_certificate
from tests.verifier.store.credential_cases import an_agent, another
from verifier.cli.certificates import state
from verifier.issuance.log import canonical, entry_digest
from verifier.ports.credentials import StoredCertificate
from verifier.services.issue import issued_entry
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "verifier.db"


@pytest.fixture
def store(database: Path) -> SqlStore:
    """A device, its agent, and a certificate of each; entries 1 and 2 of the log."""
    migrate(f"sqlite:///{database}")
    store = open_store(f"sqlite:///{database}", with_outbox=False)
    with store.work() as work:
        work.enrol(a_device())
        for one in (a_certificate(a_device()), agents_certificate()):
            work.issue(one, issued_entry(one), AT)
        work.put_agent(an_agent())
    return store


@pytest.fixture
def run(
    store: SqlStore,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    assert store
    config = tmp_path / "verifier.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{database}"\n')
    return runner(monkeypatch, capfd, "-c", config)


# --- certificates -------------------------------------------------------------------------------
def test_certificates_are_listed_and_shown(run: Run) -> None:
    code, out, _ = run("certificates", "list")
    assert code == 0
    heading, device, agent = out.splitlines()
    assert heading.split("\t") == ["number", "serial", "holder", "state", "ends", "reason"]
    assert device.split("\t")[2:4] == ["spiffe://fleet.example/device/sn-0001", "ended"]
    assert agent.split("\t")[2].endswith("/agent/planner")

    code, out, _ = run("certificates", "show", "sn-0001/planner", "--json")
    (told,) = json.loads(out)
    assert (code, told["kind"], told["agent"], told["number"]) == (0, "agent", "planner", 2)

    assert run("certificates", "show", "sn-0001")[1].startswith("number: 1\nserial: ")
    code, _, err = run("certificates", "show", "nobody")
    assert (code, "certificate-unknown" in err) == (1, True)


def test_list_chooses_by_device_state_and_end(run: Run) -> None:
    run("certificates", "revoke", "sn-0001/planner")

    def agents(*options: str) -> list[str]:
        told = json.loads(run("certificates", "list", "--json", *options)[1])
        return [one["agent"] or "device" for one in told]

    assert agents("--revoked") == ["planner"]
    assert agents("--in-force") == ["device"]
    assert agents("other") == []
    assert agents("sn-0001") == ["device", "planner"]
    assert agents("--ends-within", "30") == []


def test_what_ends_soon_is_found_behind_any_number_that_do_not(run: Run, store: SqlStore) -> None:
    now = datetime.now(UTC)
    lasting = now + timedelta(days=400)
    with store.work() as work:
        for number in range(1100):
            ends = now + timedelta(days=3) if number == 1099 else lasting
            one = another(number, not_before=now, not_after=ends)
            work.issue(one, issued_entry(one), AT)

    def numbers(*options: str) -> list[int]:
        told = json.loads(run("certificates", "list", "--json", *options)[1])
        return [one["number"] for one in told]

    assert numbers("--ends-within", "14") == [1102]
    assert numbers("--ends-within", "14", "--limit", "1") == [1102]
    assert numbers("--limit", "3", "--after", "1") == [2, 3, 4]


def test_replaced_certificate_is_not_among_those_that_end_soon(run: Run, store: SqlStore) -> None:
    now = datetime.now(UTC)
    older = another(1, not_before=now, not_after=now + timedelta(days=3))
    newer = another(2, not_before=now, not_after=now + timedelta(days=90))
    with store.work() as work:
        work.issue(older, issued_entry(older), AT)
    assert len(json.loads(run("certificates", "list", "--json", "--ends-within", "14")[1])) == 1

    with store.work() as work:
        work.issue(newer, issued_entry(newer), AT)
        work.supersede(newer, now + timedelta(hours=1), now)

    assert json.loads(run("certificates", "list", "--json", "--ends-within", "14")[1]) == []


def test_state_says_what_will_be_missed_soon() -> None:
    kept = a_certificate(a_device())  # lasts 90 days
    one = StoredCertificate(certificate=kept, number=1)

    assert state(one, AT) == "in force"
    assert state(one, AT + timedelta(days=60)) == "ending"
    assert state(one, AT + timedelta(days=90)) == "ended"
    superseded = StoredCertificate(certificate=kept, number=1, ends_at=AT + timedelta(days=1))
    assert state(superseded, AT) == "superseded"
    revoked = StoredCertificate(certificate=kept, number=1, revoked_at=AT)
    assert state(revoked, AT) == "revoked"


def test_certificate_is_revoked_by_name_and_reason(run: Run, store: SqlStore) -> None:
    code, out, _ = run(
        *("certificates", "revoke", "sn-0001/planner"),
        *("--reason", "keyCompromise", "--why", "found on a laptop"),
    )

    assert (code, out) == (0, "sn-0001/planner: 1 certificate revoked\n")
    device, agent = store.certificates()
    assert (device.revoked_at, agent.revoked_code) == (None, 1)
    assert agent.revoked_reason == "certificate: found on a laptop"
    code, out, _ = run("certificates", "revoke", "sn-0001/planner")
    assert (code, out) == (0, "sn-0001/planner: nothing was in force to be revoked\n")


def test_revoked_certificate_is_revoked_anew_for_a_key_in_other_hands_only(
    run: Run, store: SqlStore
) -> None:
    name = "sn-0001/planner"
    run("certificates", "revoke", name, "--reason", "privilegeWithdrawn")
    nothing = f"{name}: nothing was in force to be revoked\n"

    assert run("certificates", "revoke", name, "--event", "cessation")[1] == nothing
    code, out, _ = run("certificates", "revoke", name, "--event", "key-compromise")
    assert (code, out) == (0, f"{name}: 1 certificate revoked\n")
    for again in ("keyCompromise", "superseded"):
        assert run("certificates", "revoke", name, "--reason", again)[1] == nothing

    (told,) = json.loads(run("certificates", "show", name, "--json")[1])
    assert told["reason"] == "keyCompromise"
    assert run("certificates", "audit")[0] == 0


def test_audit_tells_a_reason_that_was_lowered_in_the_store(run: Run, database: Path) -> None:
    run("certificates", "revoke", "sn-0001/planner", "--reason", "keyCompromise")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE certificates SET revoked_code = 9 WHERE revoked_code = 1")

    code, out, _ = run("certificates", "audit")

    assert code == 1
    assert "the log tells another reason than the store" in out


@pytest.mark.parametrize("alarm", ["true", "false"])
def test_operators_word_is_the_devices_end_and_the_policy_says_with_which_reason(
    run: Run, store: SqlStore, tmp_path: Path, alarm: str
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'id = "mine"\n[events.operator]\naction = "revoke-holder"\n'
        f'reason = "cessationOfOperation"\nalarm = {alarm}\n'
    )
    with (tmp_path / "verifier.toml").open("a") as config:
        config.write(f'[policy]\nrevocation = "{policy}"\n')

    assert run("revoke", "sn-0001", "--reason", "sold")[0] == 0

    assert {one.revoked_code for one in store.certificates()} == {5}
    told = [(one.code, one.subject) for one in store.alarms()]
    assert told == ([("operator", "sn-0001")] if alarm == "true" else [])


def test_operators_word_needs_no_rule(run: Run, store: SqlStore, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('id = "mine"\n[events.stale]\naction = "alarm"\nafter_hours = 1\n')
    with (tmp_path / "verifier.toml").open("a") as config:
        config.write(f'[policy]\nrevocation = "{policy}"\n')

    assert run("revoke", "sn-0001")[0] == 0

    assert all(one.revoked_at for one in store.certificates())


def test_wrong_reason_and_event_are_refused_or_alarmed(run: Run, store: SqlStore) -> None:
    code, _, err = run("certificates", "revoke", "sn-0001", "--reason", "because")
    assert (code, "known are unspecified" in err) == (2, True)

    code, out, _ = run("certificates", "revoke", "sn-0001", "--event", "x-recall")
    assert (code, out) == (
        1,
        "sn-0001: the revocation policy has no such event; an alarm was raised\n",
    )
    assert all(one.revoked_at is None for one in store.certificates())
    code, out, _ = run("alarms", "list")
    assert code == 1
    assert "revocation-event-unknown" in out


def test_several_certificates_are_revoked_only_when_that_is_meant(
    run: Run, store: SqlStore
) -> None:
    second = a_certificate(a_device(version=1))
    with store.work() as work:
        work.issue(second, issued_entry(second), AT)

    code, _, err = run("certificates", "revoke", "sn-0001")
    assert (code, "add --all" in err) == (2, True)
    code, out, _ = run("certificates", "revoke", "sn-0001", "--all", "--json")
    assert (code, json.loads(out)["revoked"]) == (0, 2)


def test_device_is_revoked_for_good_with_a_reason_of_the_lists(run: Run, store: SqlStore) -> None:
    code, out, _ = run("revoke", "sn-0001", "--reason", "sold", "--code", "cessationOfOperation")

    assert (code, out) == (0, "device sn-0001 is revoked: sold\n")
    assert {one.revoked_code for one in store.certificates()} == {5}


# --- alarms -------------------------------------------------------------------------------------
def test_alarms_are_listed_until_they_are_seen(run: Run, store: SqlStore) -> None:
    assert run("alarms", "list")[0] == 0
    with store.work() as work:
        work.raise_alarm("identity-taken", "sn-0002", "an EK twice; find the copy", AT)
        work.raise_alarm("contraindicated", "sn-0001", "log-replay-mismatch", AT)

    code, out, _ = run("alarms", "list", "--json")
    assert code == 1
    assert [one["code"] for one in json.loads(out)] == ["contraindicated", "identity-taken"]
    code, _, err = run("alarms", "seen", "1", "77")
    assert (code, err) == (
        1,
        "verifier: alarm-unknown: there is no alarm 77; nothing was changed\n",
    )
    assert len(store.alarms()) == 2
    assert run("alarms", "seen", "1")[:2] == (0, "1 seen\n")
    assert [one.number for one in store.alarms()] == [2]
    assert run("alarms", "seen", "--all")[1] == "1 seen\n"
    assert run("alarms", "list")[0] == 0
    assert len(run("alarms", "list", "--all")[1].splitlines()) == 3


# --- revocation policies ------------------------------------------------------------------------
def test_revocation_policy_is_shown_listed_and_checked(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("revocation-policy", "show")
    assert code == 0
    assert "contraindicated\trevoke-certificates\tagents,device\tprivilegeWithdrawn" in out
    assert out.endswith("any other event: alarm\n")
    assert "revocation-default" in run("revocation-policy", "list")[1]
    told = json.loads(run("revocation-policy", "show", "--json")[1])
    assert told["events"]["stale"]["after_hours"] == 24

    policy = tmp_path / "mine.toml"
    policy.write_text('id = "mine"\n[events.operator]\naction = "revoke"\n')
    code, _, err = run("revocation-policy", "check", policy)
    assert code == 2
    assert f"{policy}, line 3: events.operator.action: wanted" in err
    policy.write_text('id = "mine"\n[events.certificate]\naction = "alarm"\n')
    assert run("revocation-policy", "check", policy)[0] == 0


# --- the issuance log ---------------------------------------------------------------------------
def audit(run: Run, *options: str) -> tuple[int, list[str], str]:
    """Return exit code, faults and head of an audit."""
    code, out, _ = run("certificates", "audit", "--json", *options)
    told = json.loads(out)
    assert told["sound"] is (code == 0)
    return code, told["faults"], told["head"]


@pytest.fixture
def grown(store: SqlStore) -> SqlStore:
    """Entries 1 and 2 are issuances, 3 a revocation, 4 and 5 of other kinds."""
    with store.work() as work:
        work.revoke_certificate(agents_certificate().sha256, 1, "test", AT)
        work.append_log("responder", {"serial": "1"}, AT)
        work.append_log("responder", {"serial": "2"}, AT)
    return store


def test_sound_log_passes_and_says_its_head(run: Run, grown: SqlStore) -> None:
    code, faults, head = audit(run)

    assert (code, faults) == (0, [])
    newest = grown.log_head()
    assert newest is not None
    assert head == f"{newest.number}:{newest.sha256.hex()}"
    assert audit(run, "--from", head)[0] == 0
    assert run("certificates", "audit")[1].splitlines()[0] == (
        "5 entries, 2 certificates, 1 revocations: sound"
    )


def reseal(database: sqlite3.Connection) -> None:
    """Compute every digest anew, as whoever may write the database can."""
    previous = bytes(32)
    rows = database.execute("SELECT number, at_us, kind, entry FROM issuance_log ORDER BY number")
    for number, at_us, kind, entry in rows.fetchall():
        digest = entry_digest(previous, number, at_us, kind, entry)
        database.execute(
            "UPDATE issuance_log SET previous = ?, sha256 = ? WHERE number = ?",
            (previous, digest, number),
        )
        previous = digest


def change_entry(database: sqlite3.Connection) -> None:
    database.execute("UPDATE issuance_log SET entry = ? WHERE number = 4", (canonical({"a": 1}),))


def remove_entry(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM issuance_log WHERE number = 4")


def insert_entry(database: sqlite3.Connection) -> None:
    database.execute("UPDATE issuance_log SET number = 6 WHERE number = 5")
    database.execute(
        "INSERT INTO issuance_log SELECT 5, at_us, kind, entry, sha256, sha256 "
        "FROM issuance_log WHERE number = 4"
    )


def reorder_entries(database: sqlite3.Connection) -> None:
    for old, new in ((4, 99), (5, 4), (99, 5)):
        database.execute("UPDATE issuance_log SET number = ? WHERE number = ?", (new, old))


def change_moment(database: sqlite3.Connection) -> None:
    database.execute("UPDATE issuance_log SET at_us = at_us - 1000000 WHERE number = 2")


def lose_certificate(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM certificates WHERE number = 2")


def hide_issuance(database: sqlite3.Connection) -> None:
    database.execute("UPDATE issuance_log SET kind = 'note' WHERE number = 2")
    reseal(database)


def change_holder(database: sqlite3.Connection) -> None:
    database.execute("UPDATE certificates SET holder = 'spiffe://x/y' WHERE number = 1")


def take_revocation_back(database: sqlite3.Connection) -> None:
    database.execute("UPDATE certificates SET revoked_us = NULL WHERE number = 2")


def hide_revocation(database: sqlite3.Connection) -> None:
    database.execute("UPDATE issuance_log SET kind = 'note' WHERE number = 3")
    reseal(database)


def revoke_silently(database: sqlite3.Connection) -> None:
    database.execute("UPDATE certificates SET revoked_us = 1 WHERE number = 1")


TAMPERS: dict[Callable[[sqlite3.Connection], None], str] = {
    change_entry: "entry 4: its digest is not that of what it says",
    remove_entry: "entry 4: it is missing: entry 5 comes in its place",
    insert_entry: "entry 5: its digest is not that of what it says",
    reorder_entries: "entry 4: it names another entry before it than the one there",
    change_moment: "entry 2: its digest is not that of what it says",
    lose_certificate: "entry 2: its certificate is not in the store",
    hide_issuance: "the log does not tell of it",
    change_holder: "entry 1: its holder is not that in the store",
    take_revocation_back: "an entry revokes it, the store does not",
    hide_revocation: "revoked, and no entry tells of it",
    revoke_silently: "revoked, and no entry tells of it",
}


@pytest.mark.parametrize("tamper", TAMPERS, ids=lambda act: act.__name__)
def test_audit_finds_what_was_tampered_with(
    run: Run, grown: SqlStore, database: Path, tamper: Callable[[sqlite3.Connection], None]
) -> None:
    grown.close()
    with sqlite3.connect(database) as connection:
        tamper(connection)

    code, faults, _ = audit(run)

    assert code == 1
    assert any(TAMPERS[tamper] in fault for fault in faults), faults


def test_shortened_log_is_sound_in_itself_and_found_by_a_noted_head(
    run: Run, grown: SqlStore, database: Path
) -> None:
    head = audit(run)[2]
    grown.close()
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM issuance_log WHERE number > 3")

    assert audit(run)[0] == 0
    code, faults, _ = audit(run, "--from", head)

    assert (code, faults) == (1, ["entry 5: it was there once and is gone"])


def test_rewritten_log_is_sound_in_itself_and_found_by_a_noted_head(
    run: Run, grown: SqlStore, database: Path
) -> None:
    head = audit(run)[2]
    grown.close()
    with sqlite3.connect(database) as connection:
        change_entry(connection)
        reseal(connection)

    assert audit(run)[0] == 0
    code, faults, _ = audit(run, "--from", head)

    assert code == 1
    assert "it is not the one that was noted; the log was rewritten" in faults[0]


def test_noted_head_of_another_form_is_refused(run: Run) -> None:
    code, _, err = run("certificates", "audit", "--from", "5")

    assert (code, "NUMBER:DIGEST" in err) == (2, True)
