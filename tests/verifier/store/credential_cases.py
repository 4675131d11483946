"""What every store must do with credentials; run for SQLite and for PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from alembic import command
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import text

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from tests.simulators.stored import AT, ISSUER, a_certificate, a_device, a_judgement, put_enrolment
from verifier.errors import Conflict
from verifier.issuance.log import Chain, ChainBroken
from verifier.issuance.reasons import Reason
from verifier.issuance.revocation_policy import Action, Consequence, Holder
from verifier.ports import DeviceRecord
from verifier.ports.credentials import (
    AgentRecord,
    CredentialKind,
    IdentityClaim,
    IssuedCertificate,
    LogEntry,
    PublishedList,
)
from verifier.services.issue import issued_entry
from verifier.store.engine import make_engine
from verifier.store.migrate import _config, migrate
from verifier.store.rows import to_us
from verifier.store.sql_store import SqlStore, open_store

NAME = DeviceId("sn-0001")
LATER = AT + timedelta(hours=1)
SECOND = timedelta(seconds=1)


def issue(store: SqlStore, certificate: IssuedCertificate) -> int:
    with store.work() as work:
        return work.issue(certificate, issued_entry(certificate), AT)


def another(serial: int, **changes: object) -> IssuedCertificate:
    digest = hashlib.sha256(b"%d" % serial).digest()
    base = replace(a_certificate(a_device()), sha256=digest, serial=2**128 + serial)
    return replace(base, spki_sha256=hashlib.sha256(digest).digest(), **changes)


def an_agent(name: str = "planner", **changes: object) -> AgentRecord:
    made = AgentRecord(
        device=NAME,
        name=name,
        agent_class="default",
        holder=f"spiffe://fleet.example/device/sn-0001/agent/{name}",
        owner="maya@fleet.example",
        capabilities=("calendar:read", "mail:send"),
        locator="https://edge.example/a",
        validation_methods=("mtls",),
        certificate_sha256=bytes(32),
        certificate_not_after=AT + timedelta(days=1),
        enrolled_at=AT,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def enrol_again(store: SqlStore, **changes: object) -> DeviceRecord:
    """Write a new enrolment of the device, and return what is recorded of it."""
    before = store.device(NAME)
    assert before is not None
    with store.work() as work:
        work.enrol(replace(before, **changes))  # type: ignore[arg-type]
    written = store.device(NAME)
    assert written is not None
    return written


def followed(entries: list[LogEntry]) -> Chain:
    chain = Chain()
    chain.follow(
        (one.number, to_us(one.at), one.kind, one.entry, one.previous, one.sha256)
        for one in entries
    )
    return chain


AGENT = CredentialKind.AGENT
FALLEN = Consequence(
    event="contraindicated",
    action=Action.REVOKE_CERTIFICATES,
    of=frozenset(Holder),
    reason=Reason.PRIVILEGE_WITHDRAWN,
    why="contraindicated: PCR 4",
    alarm=True,
)


class CredentialCases:
    """Inherited by one class for each database, which gives ``store``."""

    @pytest.fixture(autouse=True)
    def _enrolled(self, store: SqlStore) -> None:
        with store.work() as work:
            put_enrolment(work, a_device())

    def test_certificate_is_read_as_it_was_written(self, store: SqlStore) -> None:
        made = another(7, kind=CredentialKind.AGENT, agent="planner")
        number = issue(store, made)

        found = store.certificate(made.sha256)

        assert found is not None
        assert (found.certificate, found.number) == (made, number)
        assert (found.revoked_at, found.ends_at, found.revoked_code) == (None, None, 0)
        assert store.certificate_by_serial(made.serial) == found
        assert store.certificate(bytes(32)) is None
        assert store.certificate_by_serial(5) is None
        assert [one.number for one in store.certificates()] == [1, number]
        assert list(store.certificates(device=NAME, after=1)) == [found]
        assert list(store.certificates(device=DeviceId("other"))) == []

    def test_activation_is_spent_once_whoever_comes_first(self, store: SqlStore) -> None:
        def spend(_: int) -> bool:
            with store.work() as work:
                return work.spend_activation(bytes(32), LATER)

        with ThreadPoolExecutor(4) as replicas:
            assert sorted(replicas.map(spend, range(8))) == [False] * 7 + [True]
        with store.work() as work:
            assert work.spend_activation(b"\1" * 32, LATER)

    def test_activation_that_ended_is_forgotten_and_no_other(self, store: SqlStore) -> None:
        with store.work() as work:
            work.spend_activation(bytes(32), AT)
            work.spend_activation(b"\1" * 32, LATER)

        assert store.forget_activations(AT + timedelta(seconds=1)) == 1
        with store.work() as work:
            assert not work.spend_activation(b"\1" * 32, LATER)

    def test_certificates_of_one_kind_or_one_agent_are_revoked(self, store: SqlStore) -> None:
        for serial, name in ((7, "planner"), (8, "buyer")):
            issue(store, another(serial, kind=AGENT, agent=name, holder=f"spiffe://x/{name}"))

        with store.work() as work:
            one = work.revoke_certificates(NAME, [AGENT], 5, "gone", AT, agent="buyer")
            rest = work.revoke_certificates(NAME, [AGENT], 9, "gone", AT)
            none = work.revoke_certificates(NAME, [AGENT], 9, "gone", AT)

        assert (one, rest, none) == (1, 1, 0)
        told = {item.certificate.agent: item.revoked_code for item in store.certificates()}
        assert told == {"": 0, "planner": 9, "buyer": 5}

    def test_judgement_and_what_follows_from_it_are_one_transaction(self, store: SqlStore) -> None:
        issue(store, another(7, kind=AGENT, agent="planner", holder="spiffe://x/planner"))

        written = store.record([replace(a_judgement(), consequence=FALLEN)])
        late = store.record([replace(a_judgement(seq=2), consequence=FALLEN)])

        assert (written, late) == ([True], [False])
        assert [item.revoked_code for item in store.certificates()] == [9, 9]
        (alarm,) = store.alarms()
        assert (alarm.code, alarm.subject) == ("contraindicated", NAME)
        record = store.device(NAME)
        assert record is not None
        assert record.version == 3  # whoever holds it in memory must look again
        assert followed(list(store.log_entries())).number == 4

    def test_holder_is_revoked_for_good_or_only_told_of(self, store: SqlStore) -> None:
        with store.work() as work:
            work.put_agent(an_agent())
            told = replace(FALLEN, action=Action.ALARM)
            assert work.carry_out(told, NAME, AT, agent="planner") == 0
        assert [item.revoked_at for item in store.certificates()] == [None]
        assert [one.subject for one in store.alarms()] == [f"{NAME}/planner"]

        with store.work() as work:
            assert work.carry_out(replace(FALLEN, action=Action.REVOKE_HOLDER), NAME, AT) == 1

        record, agent = store.device(NAME), store.agent(NAME, "planner")
        assert record is not None
        assert record.enrolment.revoked
        assert agent is not None
        assert agent.revoked_reason == "contraindicated: PCR 4"

    def test_devices_without_a_believable_result_are_found(self, store: SqlStore) -> None:
        with store.work() as work:
            for name in ("sn-0002", "sn-0003"):
                put_enrolment(work, a_device(name))
        store.record([a_judgement()])  # of sn-0001; ends five minutes later
        ends = AT + timedelta(minutes=5)

        def found(at: datetime, after: str = "", limit: int = 9) -> list[str]:
            return list(store.stale_devices(at, after=after, limit=limit))

        assert found(AT - timedelta(seconds=1)) == []
        assert found(AT) == ["sn-0002", "sn-0003"]
        assert found(ends) == ["sn-0001", "sn-0002", "sn-0003"]
        assert found(ends, after="sn-0001", limit=1) == ["sn-0002"]
        with store.work() as work:
            work.revoke_certificates(DeviceId("sn-0002"), [CredentialKind.DEVICE], 9, "old", AT)
        assert found(AT) == ["sn-0003"]

        with store.work() as work:
            work.raise_alarm("stale", "sn-0003", "a day", AT)
        assert list(store.stale_devices(AT, after="", limit=9, untold="stale")) == ["sn-0003"]
        with store.work() as work:
            work.see_alarm(1, AT)
            work.raise_alarm("stale", "sn-0003", "a day", LATER)
        assert list(store.stale_devices(AT, after="", limit=9, untold="stale")) == []
        assert list(store.stale_devices(AT, after="", limit=9, untold="other")) == ["sn-0003"]

    @pytest.mark.parametrize("reason", [one for one in Reason if one != Reason.KEY_COMPROMISE])
    def test_lesser_reason_gives_way_to_a_key_in_other_hands_and_never_back(
        self, store: SqlStore, reason: Reason
    ) -> None:
        one = another(7)
        issue(store, one)
        compromise, seen = Reason.KEY_COMPROMISE, []
        for code, at in ((reason, AT), (reason, LATER), (compromise, LATER), (reason, LATER)):
            with store.work() as work:
                seen.append(work.revoke_certificate(one.sha256, code, code.word, at))

        assert seen == [True, False, True, False]
        found = store.certificate(one.sha256)
        assert found is not None
        assert (found.revoked_code, found.revoked_at) == (compromise, AT)
        assert found.revoked_reason == "keyCompromise"
        told = [json.loads(entry.entry) for entry in store.log_entries() if entry.kind == "revoked"]
        assert [entry["code"] for entry in told] == [reason, compromise]
        with pytest.raises(Conflict) as refused:
            issue(store, replace(another(8), spki_sha256=one.spki_sha256))
        assert refused.value.code is RefusalCode.KEY_COMPROMISED

    def test_compromise_of_a_ca_stays_what_it_is(self, store: SqlStore) -> None:
        one = another(7)
        issue(store, one)
        with store.work() as work:
            assert work.revoke_certificate(one.sha256, 2, "distrusted", AT)
            assert not work.revoke_certificate(one.sha256, Reason.KEY_COMPROMISE, "x", AT)

    def test_compromise_of_a_device_reaches_what_was_revoked_for_less(
        self, store: SqlStore
    ) -> None:
        one = another(7)
        issue(store, one)
        with store.work() as work:
            work.revoke_certificate(one.sha256, Reason.SUPERSEDED, "old", AT)
            assert work.revoke(NAME, "stolen", LATER, code=Reason.KEY_COMPROMISE)
            assert not work.revoke_certificates(NAME, tuple(CredentialKind), 9, "late", LATER)

        assert {found.revoked_code for found in store.certificates(device=NAME)} == {1}

    def test_no_serial_number_is_given_twice(self, store: SqlStore) -> None:
        issue(store, another(7))

        with pytest.raises(Conflict) as refused:
            issue(store, replace(another(8), serial=another(7).serial))

        assert refused.value.code is RefusalCode.SERIAL_TAKEN
        assert [entry.number for entry in store.log_entries()] == [1, 2]

    def test_key_of_another_holder_is_refused_and_of_the_same_is_not(self, store: SqlStore) -> None:
        first = another(7)
        issue(store, first)
        same = replace(another(8), spki_sha256=first.spki_sha256)

        assert issue(store, same) == 3
        with pytest.raises(Conflict) as refused:
            issue(store, replace(another(9), spki_sha256=first.spki_sha256, holder="spiffe://x/y"))

        assert refused.value.code is RefusalCode.KEY_ALREADY_CERTIFIED
        assert store.key_holder(first.spki_sha256) == first.holder
        assert store.key_holder(bytes(32)) is None

    def test_new_certificate_plans_the_end_of_the_others(self, store: SqlStore) -> None:
        old = store.certificates()[0].certificate
        planner = another(6, kind=CredentialKind.AGENT, agent="planner")
        issue(store, planner)
        made = another(7)
        with store.work() as work:
            work.issue(made, issued_entry(made), AT)
            work.supersede(made, LATER, AT)
            work.supersede(made, LATER + timedelta(hours=1), AT)

        assert store.due(AT, 10) == []
        assert [one.certificate for one in store.due(LATER, 10)] == [old]
        assert store.certificate(planner.sha256).ends_at is None  # type: ignore[union-attr]
        assert store.revoked(ISSUER, AT) == []

    def test_end_that_has_come_revokes_at_once(self, store: SqlStore) -> None:
        old = store.certificates()[0].certificate
        made = another(7)
        with store.work() as work:
            work.issue(made, issued_entry(made), AT)
            work.supersede(made, AT, AT)

        assert store.revoked(ISSUER, AT) == [(old.serial, AT, 4)]
        assert store.due(LATER, 10) == []

    def test_revoked_certificate_is_listed_counted_and_logged_once(self, store: SqlStore) -> None:
        made = another(7)
        number = issue(store, made)
        before = store.revocation_revision()
        with store.work() as work:
            assert work.revoke_certificate(made.sha256, 9, "it lied", LATER)
            assert not work.revoke_certificate(made.sha256, 4, "again", LATER)
            assert not work.revoke_certificate(bytes(32), 1, "who", LATER)

        found = store.certificate(made.sha256)
        assert found is not None
        assert (found.revoked_at, found.revoked_code, found.revoked_reason) == (LATER, 9, "it lied")
        assert store.revoked(ISSUER, LATER) == [(made.serial, LATER, 9)]
        assert store.revoked(bytes(32), LATER) == []
        assert store.revoked(ISSUER, made.not_after) == []
        assert store.revoked_numbers(1, number) == [number]
        assert store.revoked_numbers(number + 1, number + 9) == []
        assert store.revocation_revision() == before + 1
        assert [entry.kind for entry in store.log_entries()] == ["issued", "issued", "revoked"]

    def test_revoked_device_takes_its_agents_along(self, store: SqlStore) -> None:
        issue(store, another(7, kind=CredentialKind.AGENT, agent="planner"))
        with store.work() as work:
            work.put_agent(an_agent())
            assert work.revoke(NAME, "stolen", LATER, code=1)

        assert {row.code for row in store.revoked(ISSUER, LATER)} == {1}
        assert len(store.revoked(ISSUER, LATER)) == 2
        agent = store.agent(NAME, "planner")
        assert agent is not None
        assert agent.revoked_reason == "stolen"

    def test_agents_are_kept_by_device_and_name(self, store: SqlStore) -> None:
        planned = an_agent("b", decommission_at=LATER)
        with store.work() as work:
            work.put_agent(an_agent())
            work.put_agent(planned)

        found = store.agents(NAME)

        assert [one.name for one in found] == ["b", "planner"]
        assert found[1] == an_agent(version=1)
        assert store.agents_due(AT, 5) == []
        assert list(store.agents_due(LATER, 5)) == [replace(planned, version=1)]
        with store.work() as work:
            assert work.revoke_agent(NAME, "b", 5, "its time is over", LATER)
            assert not work.revoke_agent(NAME, "c", 5, "who", LATER)
        assert store.agents_due(LATER, 5) == []
        with pytest.raises(Conflict), store.work() as work:
            work.put_agent(an_agent())
        with pytest.raises(Conflict), store.work() as work:
            work.put_agent(an_agent(version=9))
        with store.work() as work:
            work.put_agent(an_agent(version=1, owner="noor"))
        assert store.agent(NAME, "planner") == an_agent(version=2, owner="noor")

    def test_planned_ends_are_told_when_they_have_come(self, store: SqlStore) -> None:
        enrol_again(store, decommission_at=LATER)
        with store.work() as work:
            work.put_agent(an_agent())

        assert (store.devices_due(LATER - SECOND, 5), store.devices_due(LATER, 0)) == ([], [])
        assert store.devices_due(LATER, 5) == [NAME]
        with store.work() as work:
            assert work.revoke(NAME, "gone", LATER, code=5)
        assert store.devices_due(LATER, 5) == []

    def test_operators_word_on_an_end_moves_the_row_on_and_is_logged(self, store: SqlStore) -> None:
        before = enrol_again(store)
        assert not before.decommission_told
        with store.work() as work:
            work.put_agent(an_agent())
            assert work.decommission(NAME, LATER, AT)
            assert work.decommission(NAME, None, AT, agent="planner")
            assert not work.decommission(DeviceId("nobody"), LATER, AT)
            assert not work.decommission(NAME, LATER, AT, agent="nobody")

        assert store.device(NAME) == replace(
            before, decommission_at=LATER, decommission_told=True, version=before.version + 1
        )
        assert store.agent(NAME, "planner") == an_agent(version=2, decommission_told=True)
        told = [json.loads(one.entry) for one in store.log_entries() if one.kind == "decommission"]
        assert told == [
            {"device": NAME, "agent": "", "ends": LATER.isoformat()},
            {"device": NAME, "agent": "planner", "ends": None},
        ]
        followed(list(store.log_entries()))
        with pytest.raises(Conflict), store.work() as work:
            work.put_agent(an_agent(version=1))  # read before the operator spoke

    def test_what_is_revoked_gets_no_other_end(self, store: SqlStore) -> None:
        with store.work() as work:
            work.put_agent(an_agent())
            assert work.revoke(NAME, "gone", AT, code=5)
        with store.work() as work:
            assert not work.decommission(NAME, None, AT)
            assert not work.decommission(NAME, None, AT, agent="planner")

        assert "decommission" not in {one.kind for one in store.log_entries()}

    def test_agents_live_certificates_are_told_newest_first(self, store: SqlStore) -> None:
        agents = {"kind": CredentialKind.AGENT, "agent": "planner"}
        for serial in (1, 2, 3):
            issue(store, another(serial, not_after=AT + timedelta(hours=serial), **agents))
        issue(store, another(4, kind=CredentialKind.AGENT, agent="mailer"))
        issue(store, another(5))
        with store.work() as work:
            assert work.revoke_certificate(another(3).sha256, 1, "lost", AT)

        def live(after: timedelta) -> list[int]:
            found = store.live_certificates(NAME, "planner", AT + after)
            return [one.certificate.serial - 2**128 for one in found]

        assert live(timedelta(0)) == [2, 1]
        assert live(timedelta(hours=1)) == [2]
        assert live(timedelta(hours=2)) == []

    def test_device_that_moved_on_is_not_held(self, store: SqlStore) -> None:
        """What was judged must still stand when it is written."""
        record = store.device(NAME)
        assert record is not None
        with store.work() as work:
            work.hold_device(NAME, record.version)
        unchanged = store.device(NAME)
        assert unchanged == record
        with store.work() as work:
            work.revoke(NAME, "stolen", LATER)
        with pytest.raises(Conflict) as caught, store.work() as work:
            work.hold_device(NAME, record.version)
        assert caught.value.code is RefusalCode.CONFLICT
        with pytest.raises(Conflict), store.work() as work:
            work.hold_device(DeviceId("nobody"), 1)

    def test_second_claimant_of_an_identity_is_refused(self, store: SqlStore) -> None:
        claim = IdentityClaim(kind="ek", value=bytes(32))
        with store.work() as work:
            work.claim(NAME, [claim])
            work.claim(NAME, [claim, IdentityClaim(kind="idevid", value=bytes(32))])
            put_enrolment(work, a_device("sn-0002"))

        with pytest.raises(Conflict) as refused, store.work() as work:
            work.claim(DeviceId("sn-0002"), [claim])

        assert refused.value.code is RefusalCode.IDENTITY_TAKEN
        assert "sn-0001" in refused.value.reason

    def test_log_is_a_chain_and_a_change_anywhere_breaks_it(self, store: SqlStore) -> None:
        for serial in range(5):
            issue(store, another(serial))
        with store.work() as work:
            entry = work.append_log("authority", {"what": "Schlüssel", "n": 1}, LATER)
        entries = list(store.log_entries())

        chain = followed(entries)

        assert (chain.number, chain.head) == (7, entry.sha256)
        assert store.log_head() == entries[-1] == entry
        assert list(store.log_entries(after=5, limit=1)) == [entries[5]]
        lies = (
            [replace(entries[3], entry=entries[3].entry.replace("sn-", "xx-"))],
            [replace(entries[3], at=LATER)],
            [replace(entries[3], kind="revoked")],
            [replace(entries[3], previous=bytes(32))],
            [],
            [entries[4], entries[3]],
        )
        for lie in lies:
            with pytest.raises(ChainBroken, match=r"entry [45]"):
                followed([*entries[:3], *lie, *entries[4:]])

    def test_many_writers_make_one_chain_and_no_number_twice(self, store: SqlStore) -> None:
        ready = threading.Barrier(8)

        def worker(start: int) -> list[int]:
            ready.wait()
            return [issue(store, another(start + step)) for step in range(25)]

        with ThreadPoolExecutor(8) as pool:
            numbers = [number for part in pool.map(worker, range(0, 800, 100)) for number in part]

        entries = list(store.log_entries())
        assert sorted(numbers) == list(range(2, 202))
        assert followed(entries).number == 201
        assert [one.number for one in store.certificates(limit=500)] == list(range(1, 202))

    def test_only_the_newest_list_of_an_issuer_is_kept(self, store: SqlStore) -> None:
        made = PublishedList(
            issuer_sha256=ISSUER,
            number=3,
            der=b"list",
            this_update=AT,
            next_update=LATER,
            revision=0,
        )
        with store.work() as work:
            assert work.put_list(made)
            assert not work.put_list(made)
            assert not work.put_list(replace(made, number=2))
            assert work.put_list(replace(made, number=4, der=b"newer"))

        assert store.published_list(ISSUER) == replace(made, number=4, der=b"newer")
        assert store.published_list(bytes(32)) is None

    def test_alarm_is_raised_once_until_somebody_has_seen_it(self, store: SqlStore) -> None:
        with store.work() as work:
            work.raise_alarm("identity-taken", "sn-0001", "two claim it", AT)
            work.raise_alarm("identity-taken", "sn-0001", "two claim it", LATER)
            work.raise_alarm("identity-taken", "sn-0002", "two claim it", LATER)

        newest, first = store.alarms()
        assert (first.subject, first.at, first.seen_at) == ("sn-0001", AT, None)
        assert newest.subject == "sn-0002"
        with store.work() as work:
            assert work.see_alarm(first.number, LATER)
            assert not work.see_alarm(99, LATER)
            work.raise_alarm("identity-taken", "sn-0001", "again", LATER)
        assert [one.subject for one in store.alarms()] == ["sn-0001", "sn-0002"]
        assert len(store.alarms(unseen=False)) == 3


def check_certificates_of_before_enter_the_log(url: str) -> None:
    """Fill a store of the shape before the log, bring it up, look, and bring it down again."""
    engine = make_engine(url)
    command.upgrade(_config(engine), "0004")
    real = _a_real_certificate()
    rows = [(real, 3, "ab"), (b"torn", 1, "cd")]
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO devices (device_id, ak_public, ak_name, hardware_serial,"
                " idevid_sha256, anchor_sha256, endorsed_from_us, endorsed_until_us, device_class,"
                " certificate_sha256, certificate_not_after_us, enrolled_us) VALUES"
                " ('sn-0001', :b, :b, 'S', :b, :b, 0, 0, 'default', :b, 0, 0)"
            ),
            {"b": b"x"},
        )
        for der, begins, serial in rows:
            connection.execute(
                text(
                    "INSERT INTO certificates (sha256, device_id, serial, der, not_before_us,"
                    " not_after_us) VALUES (:sha256, 'sn-0001', :serial, :der, :begins, 9)"
                ),
                {
                    "sha256": hashlib.sha256(der).digest(),
                    "serial": serial,
                    "der": der,
                    "begins": begins,
                },
            )
    engine.dispose()

    assert migrate(url).up_to_date

    store = open_store(url, with_outbox=False)
    torn, whole = store.certificates()
    assert (torn.number, torn.certificate.holder) == (1, "")
    assert (whole.number, whole.certificate.holder) == (2, "spiffe://fleet.example/device/sn-0001")
    assert len(whole.certificate.spki_sha256) == 32
    assert followed(list(store.log_entries())).number == 2
    assert issue(store, another(7)) == 3
    store.close()
    engine = make_engine(url)
    command.downgrade(_config(engine), "0004")
    engine.dispose()
    assert migrate(url).up_to_date


def _a_real_certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    uri = x509.UniformResourceIdentifier("spiffe://fleet.example/device/sn-0001")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, AT, LATER)
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
