"""Revocation by policy: what an event does, what time brings, what is published of it."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from tests.simulators.soft_ca import soft_ca
from tests.simulators.stored import AT, a_certificate, a_device, a_judgement, put_enrolment
from tests.verifier.store.credential_cases import an_agent
from verifier.errors import NotFound, Unavailable
from verifier.issuance.ocsp_answer import OcspFailure, ocsp_failure
from verifier.issuance.profiles import Issuer
from verifier.issuance.publication import issuer_id
from verifier.issuance.reasons import Reason
from verifier.issuance.revocation_policy import (
    UNKNOWN_EVENT,
    Action,
    Event,
    RevocationPolicy,
    Rule,
)
from verifier.issuance.status_list import LIST_SIZE
from verifier.ports.authority import CertificateAuthority
from verifier.ports.credentials import CredentialKind, IssuedCertificate
from verifier.services.issue import issued_entry
from verifier.services.ocsp_responder import RESPONDER, OcspResponder
from verifier.services.revocation import Revocation
from verifier.services.revocation_lists import RevocationLists, issuer_digest
from verifier.services.status_lists import StatusLists
from verifier.sources import SystemEntropy, new_key, revocation_policy_named
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store

DAY = timedelta(days=1)
NAME = DeviceId("sn-0001")
DEFAULT = revocation_policy_named("revocation-default")
SILENT = RevocationPolicy(id="silent", rules={})


class Authorities(CertificateAuthority):
    """The CAs of a test."""

    def __init__(self, *issuers: Issuer) -> None:
        self.known = list(issuers)

    def issuer(self) -> Issuer:
        return self.known[0]

    def issuers(self) -> Sequence[Issuer]:
        return self.known

    def certificates(self) -> Sequence[x509.Certificate]:
        return self.roots()

    def roots(self) -> Sequence[x509.Certificate]:
        return [one.certificate for one in self.known]


CA = soft_ca(AT)
OLD_CA = soft_ca(AT, name="Old CA")


def of_ca(certificate: IssuedCertificate, issuer: Issuer = CA) -> IssuedCertificate:
    return replace(certificate, issuer_sha256=issuer_digest(issuer.certificate))


def agents_certificate(name: str = "planner") -> IssuedCertificate:
    digest = hashlib.sha256(name.encode()).digest()
    return replace(
        a_certificate(a_device()),
        sha256=digest,
        serial=2**128 + int.from_bytes(digest[:15]),
        kind=CredentialKind.AGENT,
        agent=name,
        holder=f"spiffe://fleet.example/device/sn-0001/agent/{name}",
        spki_sha256=hashlib.sha256(digest).digest(),
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    return url


@pytest.fixture
def store(url: str) -> SqlStore:
    """Holds a device with an LDevID certificate and an agent with its own."""
    store = open_store(url, with_outbox=False)
    device, agent = of_ca(a_certificate(a_device())), of_ca(agents_certificate())
    with store.work() as work:
        work.enrol(a_device())
        work.issue(device, issued_entry(device), AT)
        work.issue(agent, issued_entry(agent), AT)
        work.put_agent(an_agent())
    return store


def state(store: SqlStore) -> dict[str, int | None]:
    """The reason of each certificate; None while it is in force."""
    return {
        one.certificate.agent or "device": one.revoked_code if one.revoked_at else None
        for one in store.certificates()
    }


def revoke_one(store: SqlStore, certificate: IssuedCertificate, code: int = 9) -> None:
    with store.work() as work:
        assert work.revoke_certificate(certificate.sha256, code, "test", AT)


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


def test_planned_ends_under_a_silent_policy_alarm_and_wait(store: SqlStore) -> None:
    with store.work() as work:
        work.put_agent(an_agent(decommission_at=AT, version=1))
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


# --- revocation lists ---------------------------------------------------------------------------
def lists(store: SqlStore, *issuers: Issuer) -> RevocationLists:
    return RevocationLists(store, Authorities(*(issuers or (CA,))), DAY)


def serials(der: bytes) -> set[int]:
    return {one.serial_number for one in x509.load_der_x509_crl(der)}


def list_number(der: bytes) -> int:
    found = x509.load_der_x509_crl(der).extensions.get_extension_for_class(x509.CRLNumber)
    return found.value.crl_number


def test_next_list_has_what_was_revoked(store: SqlStore) -> None:
    made, name = lists(store), issuer_id(CA.certificate)
    device = store.certificates()[0].certificate

    before = made.current(name, AT)
    assert made.current(name, AT) is before
    revoke_one(store, device)
    after = made.current(name, AT)

    assert (serials(before.der), serials(after.der)) == (set(), {device.serial})
    assert list_number(after.der) > list_number(before.der)


def test_next_list_has_the_graver_reason_and_the_moment_of_before(store: SqlStore) -> None:
    made, name = lists(store), issuer_id(CA.certificate)
    device = store.certificates()[0].certificate
    revoke_one(store, device)

    def told() -> tuple[x509.ReasonFlags, datetime]:
        (row,) = x509.load_der_x509_crl(made.current(name, AT + DAY / 3).der)
        reason = row.extensions.get_extension_for_class(x509.CRLReason).value.reason
        return reason, row.revocation_date_utc

    before = told()
    with store.work() as work:
        assert work.revoke_certificate(device.sha256, 1, "found on a laptop", AT + DAY / 4)

    assert before == (x509.ReasonFlags.privilege_withdrawn, AT.replace(microsecond=0))
    assert told() == (x509.ReasonFlags.key_compromise, AT.replace(microsecond=0))


def test_list_is_made_anew_before_it_ends(store: SqlStore) -> None:
    made, name = lists(store), issuer_id(CA.certificate)
    first = made.current(name, AT)

    assert made.current(name, AT + 0.49 * DAY) is first
    second = made.current(name, AT + 0.5 * DAY)

    assert second.number > first.number
    assert second.next_update == first.next_update + 0.5 * DAY


def test_numbers_grow_over_restarts_and_replicas(store: SqlStore, url: str) -> None:
    name, device, agent = issuer_id(CA.certificate), *store.certificates()
    one, two = lists(store), lists(open_store(url, with_outbox=False))

    seen = [one.current(name, AT)]
    assert two.current(name, AT).der == seen[0].der
    revoke_one(store, device.certificate)
    seen.append(two.current(name, AT))
    assert one.current(name, AT).der == seen[1].der
    revoke_one(store, agent.certificate)
    seen.append(lists(open_store(url, with_outbox=False)).current(name, AT))

    assert [list_number(item.der) for item in seen] == sorted(
        {list_number(item.der) for item in seen}
    )


def test_number_does_not_fall_when_the_store_comes_from_a_backup(store: SqlStore) -> None:
    given = lists(store).current(issuer_id(CA.certificate), AT)

    assert given.number >= AT.timestamp() - 1


def test_certificate_that_ended_stays_on_the_list_once_more(store: SqlStore) -> None:
    made, name = lists(store), issuer_id(CA.certificate)
    device = store.certificates()[0].certificate
    revoke_one(store, device)

    shortly_after, long_after = (
        made.current(name, device.not_after + wait) for wait in (DAY / 2, 3 * DAY)
    )

    assert serials(shortly_after.der) == {device.serial}
    assert serials(long_after.der) == set()


def test_each_ca_lists_its_own(store: SqlStore) -> None:
    older = of_ca(agents_certificate("older"), OLD_CA)
    with store.work() as work:
        work.issue(older, issued_entry(older), AT)
    revoke_one(store, older)
    revoke_one(store, store.certificates()[0].certificate)
    made = lists(store, CA, OLD_CA)

    found = {
        one: made.current(issuer_id(issuer.certificate), AT).der
        for one, issuer in (("new", CA), ("old", OLD_CA))
    }

    assert serials(found["old"]) == {older.serial}
    assert serials(found["new"]) == {store.certificates()[0].certificate.serial}
    assert x509.load_der_x509_crl(found["old"]).issuer == OLD_CA.certificate.subject


def test_ca_that_is_not_ours_has_no_list(store: SqlStore) -> None:
    with pytest.raises(NotFound) as refused:
        lists(store).current(issuer_id(OLD_CA.certificate), AT)

    assert refused.value.code is RefusalCode.CA_UNKNOWN


def test_list_is_not_given_while_the_store_cannot_be_asked(store: SqlStore, url: str) -> None:
    """An older one would be believed until it ends."""
    made, name = lists(store), issuer_id(CA.certificate)
    made.current(name, AT)
    Path(url.removeprefix("sqlite:///")).unlink()
    store.close()

    with pytest.raises(Unavailable):
        made.current(name, AT)


# --- OCSP and status lists ----------------------------------------------------------------------
def question(*certificates: IssuedCertificate, issuer: Issuer = CA) -> bytes:
    """Ask about one certificate, by the hashes of its issuer."""
    key = issuer.certificate.public_key().public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )
    digests = (
        hashlib.sha256(issuer.certificate.subject.public_bytes()).digest(),
        hashlib.sha256(key).digest(),
    )
    builder = ocsp.OCSPRequestBuilder()
    return (
        builder.add_certificate_by_hash(*digests, certificates[0].serial, hashes.SHA256())
        .build()
        .public_bytes(Encoding.DER)
    )


def responder(store: SqlStore, *issuers: Issuer) -> OcspResponder:
    return OcspResponder(store, Authorities(*(issuers or (CA,))), SystemEntropy(), new_key)


def test_ocsp_says_what_the_store_says(store: SqlStore) -> None:
    asked, agent = (one.certificate for one in store.certificates())
    made = responder(store)
    revoke_one(store, agent)

    found = {
        name: ocsp.load_der_ocsp_response(made.answer(message, AT)).certificate_status.name
        for name, message in (
            ("good", question(asked)),
            ("revoked", question(agent)),
            ("unknown", question(replace(asked, serial=2**128))),
        )
    }

    assert found == {"good": "GOOD", "revoked": "REVOKED", "unknown": "UNKNOWN"}


def test_ocsp_does_not_answer_for_another_ca(store: SqlStore) -> None:
    (asked, _) = (one.certificate for one in store.certificates())

    foreign = responder(store).answer(question(asked, issuer=OLD_CA), AT)
    crossed = responder(store, CA, OLD_CA).answer(question(asked, issuer=OLD_CA), AT)

    assert foreign == ocsp_failure(OcspFailure.UNAUTHORIZED)
    status = ocsp.load_der_ocsp_response(crossed).certificate_status
    assert status is ocsp.OCSPCertStatus.UNKNOWN


def test_ocsp_failures_are_answers(store: SqlStore, url: str) -> None:
    asked = store.certificates()[0].certificate
    gone = responder(open_store(url + "-gone", with_outbox=False))

    assert responder(store).answer(b"?", AT) == ocsp_failure(OcspFailure.MALFORMED_REQUEST)
    assert gone.answer(question(asked), AT) == ocsp_failure(OcspFailure.TRY_LATER)


def test_responder_is_logged_kept_and_replaced_in_time(store: SqlStore) -> None:
    asked, made = store.certificates()[0].certificate, responder(store)

    def delegate(at: datetime) -> x509.Certificate:
        return ocsp.load_der_ocsp_response(made.answer(question(asked), at)).certificates[0]

    first = delegate(AT)
    assert delegate(AT + timedelta(hours=11)) == first
    second = delegate(AT + timedelta(hours=12))
    assert second != first
    told = [one for one in store.log_entries() if one.kind == RESPONDER]
    assert [json.loads(one.entry)["certificate"] for one in told] == [
        issuer_digest(one).hex() for one in (first, second)
    ]


class Ring:
    """Signs nothing; gives back what it was to sign."""

    def __init__(self) -> None:
        self.claims: list[Mapping[str, Any]] = []

    def sign_token(self, claims: Mapping[str, object], token_type: str) -> str:
        assert token_type == "statuslist+jwt"  # noqa: S105 - a media type
        self.claims.append(claims)
        return f"token {len(self.claims)}"


def test_next_status_list_has_what_was_revoked(store: SqlStore) -> None:
    ring = Ring()
    made = StatusLists(store, ring, "http://pki/{}".format, timedelta(minutes=5))

    first = made.current(0, AT)
    assert made.current(0, AT) is first
    revoke_one(store, store.certificates()[1].certificate)
    assert made.current(0, AT) is not first
    assert made.current(0, AT + timedelta(minutes=3)).at == AT + timedelta(minutes=3)

    lists_ = [one["status_list"]["lst"] for one in ring.claims]
    assert len(set(lists_)) == 2
    packed = zlib.decompress(base64.urlsafe_b64decode(lists_[1] + "=="))
    assert packed[0] == 1 << store.certificates()[1].number


def test_status_list_that_no_certificate_is_in_is_not_there(store: SqlStore) -> None:
    made = StatusLists(store, Ring(), "http://pki/{}".format, timedelta(minutes=5))

    for wrong in (1, LIST_SIZE, -1):
        with pytest.raises(NotFound) as refused:
            made.current(wrong, AT)
        assert refused.value.code is RefusalCode.STATUS_LIST_UNKNOWN
