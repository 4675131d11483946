"""What is published of revocations: lists, OCSP answers, status lists; and what of a lost key."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from attestation.der import OCTET_STRING, SEQUENCE, write, write_integer, write_oid
from attestation.refusals import RefusalCode
from tests.simulators.stored import AT
from tests.verifier.services.revocation_yard import (
    CA,
    DAY,
    OLD_CA,
    Authorities,
    agents_certificate,
    of_ca,
    revoke_one,
    store,
    url,
)
from verifier.cli.ca_certificates import CA_COMPROMISE
from verifier.errors import NotFound, Unavailable
from verifier.issuance.ocsp_answer import OcspFailure, ocsp_failure
from verifier.issuance.profiles import Issuer
from verifier.issuance.publication import issuer_id
from verifier.issuance.reasons import Reason
from verifier.issuance.status_list import LIST_SIZE
from verifier.ports.credentials import IssuedCertificate
from verifier.services.issue import issued_entry
from verifier.services.ocsp_responder import RESPONDER, OcspResponder
from verifier.services.revocation_lists import RevocationLists, find_certificate, issuer_digest
from verifier.services.status_lists import StatusLists
from verifier.sources import SystemEntropy, new_key
from verifier.store.sql_store import SqlStore, open_store

__all__ = ["store", "url"]


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


def test_number_does_not_fall_though_many_lists_of_one_second_were_lost_with_the_store(
    store: SqlStore, url: str, tmp_path: Path
) -> None:
    """RFC 5280, 5.2.3: a store from a backup goes on above what was published since."""
    more = [of_ca(agents_certificate(f"agent-{number}")) for number in range(5)]
    with store.work() as work:
        for one in more:
            work.issue(one, issued_entry(one), AT)
    made, name = lists(store), issuer_id(CA.certificate)
    made.current(name, AT)
    path, backup = Path(url.removeprefix("sqlite:///")), tmp_path / "backup.db"
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as copy:
        source.backup(copy)
    published = []
    for number, one in enumerate(more):
        revoke_one(store, one)
        moment = AT + timedelta(milliseconds=number)
        published.append(list_number(made.current(name, moment).der))

    restored = open_store(f"sqlite:///{backup}", with_outbox=False)
    revoke_one(restored, more[0])
    after = lists(restored).current(name, AT + timedelta(seconds=1))

    assert list_number(after.der) > max(published)
    assert published == sorted(set(published))


def unable(authority: Authorities, issuer: Issuer) -> None:
    """The key of a CA cannot be opened any more."""
    error = Unavailable(RefusalCode.CA_PASSPHRASE_WRONG, "it does not open")
    authority.known.remove(issuer)
    authority.mute.append((issuer.certificate, error))


@pytest.mark.parametrize("is_restarted", [False, True])
def test_ca_whose_key_is_lost_has_its_last_list_until_that_ends_or_lacks_something(
    store: SqlStore, *, is_restarted: bool
) -> None:
    authority, name = Authorities(CA), issuer_id(CA.certificate)
    made = RevocationLists(store, authority, DAY)
    device, agent = (one.certificate for one in store.certificates())
    with store.work() as work:
        assert work.revoke_certificate(device.sha256, CA_COMPROMISE, "distrusted", AT)
    last = made.current(name, AT)
    unable(authority, CA)
    made = RevocationLists(store, authority, DAY) if is_restarted else made

    assert made.current(name, AT + 0.9 * DAY).der == last.der
    elsewhere = of_ca(agents_certificate("elsewhere"), OLD_CA)
    with store.work() as work:
        work.issue(elsewhere, issued_entry(elsewhere), AT)
    revoke_one(store, elsewhere)
    assert made.current(name, AT + 0.9 * DAY).der == last.der
    with pytest.raises(Unavailable, match="ended at") as ended:
        made.current(name, last.next_update)
    revoke_one(store, agent)
    with pytest.raises(Unavailable, match="revoked since") as lacking:
        made.current(name, AT + 0.9 * DAY)

    assert {ended.value.code, lacking.value.code} == {RefusalCode.CA_PASSPHRASE_WRONG}


def test_replica_without_the_key_goes_on_with_what_another_signs(store: SqlStore, url: str) -> None:
    authority, name = Authorities(CA), issuer_id(CA.certificate)
    able, made = lists(open_store(url, with_outbox=False)), RevocationLists(store, authority, DAY)
    first = able.current(name, AT)
    unable(authority, CA)
    assert made.current(name, AT).der == first.der

    second = able.current(name, AT + 0.9 * DAY)

    assert second.der != first.der
    assert made.current(name, AT + 1.1 * DAY).der == second.der


def test_last_list_of_a_lost_key_is_not_given_once_a_reason_is_graver(store: SqlStore) -> None:
    authority, name = Authorities(CA), issuer_id(CA.certificate)
    made, device = RevocationLists(store, authority, DAY), store.certificates()[0].certificate
    revoke_one(store, device)
    made.current(name, AT)
    unable(authority, CA)
    made.current(name, AT)

    revoke_one(store, device, Reason.KEY_COMPROMISE)

    with pytest.raises(Unavailable, match="revoked since"):
        made.current(name, AT)


def test_ca_whose_key_is_lost_before_its_first_list_has_none_and_is_not_unknown(
    store: SqlStore,
) -> None:
    authority = Authorities(CA)
    unable(authority, CA)

    with pytest.raises(Unavailable):
        RevocationLists(store, authority, DAY).current(issuer_id(CA.certificate), AT)
    assert find_certificate(authority, issuer_id(CA.certificate)) == CA.certificate
    asked = store.certificates()[0].certificate
    answer = OcspResponder(store, authority, SystemEntropy(), new_key).answer(question(asked), AT)
    assert answer == ocsp_failure(OcspFailure.TRY_LATER)


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
    """Ask about certificates, by the hashes of their issuer; builders take one only."""
    key = issuer.certificate.public_key().public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )
    digests = (
        hashlib.sha256(issuer.certificate.subject.public_bytes()).digest(),
        hashlib.sha256(key).digest(),
    )
    ids = [
        write(
            SEQUENCE,
            write(SEQUENCE, write_oid("2.16.840.1.101.3.4.2.1")),
            *(write(OCTET_STRING, one) for one in digests),
            write_integer(certificate.serial),
        )
        for certificate in certificates
    ]
    wanted = write(SEQUENCE, *(write(SEQUENCE, one) for one in ids))
    return write(SEQUENCE, write(SEQUENCE, wanted))


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


@dataclass
class Counting:
    """A real store that counts what it is asked for."""

    store: SqlStore
    asked: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self.store, name)


def test_ocsp_asks_the_store_once_for_all_certificates_of_a_request(store: SqlStore) -> None:
    others = [of_ca(agents_certificate(f"agent-{number}")) for number in range(2)]
    foreign = of_ca(agents_certificate("foreign"), OLD_CA)
    with store.work() as work:
        for one in (*others, foreign):
            work.issue(one, issued_entry(one), AT)
    revoke_one(store, others[1])
    asked = [*others, foreign, replace(others[0], serial=2**129), others[1]]
    counting = Counting(store)
    made = OcspResponder(counting, Authorities(CA), SystemEntropy(), new_key)  # type: ignore[arg-type]
    made.answer(question(others[0]), AT)  # the responder is there from now on
    counting.asked.clear()

    answer = ocsp.load_der_ocsp_response(made.answer(question(*asked), AT))

    told = [one.certificate_status.name for one in answer.responses]
    assert told == ["GOOD", "REVOKED", "UNKNOWN", "UNKNOWN", "REVOKED"]
    assert counting.asked == {"certificates_by_serial": 1}


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


class SlowRing(Ring):
    """Takes its time, so that others ask meanwhile."""

    def sign_token(self, claims: Mapping[str, object], token_type: str) -> str:
        threading.Event().wait(0.05)
        return super().sign_token(claims, token_type)


def test_status_list_is_made_once_however_many_ask_at_once(store: SqlStore) -> None:
    ring, together = SlowRing(), threading.Barrier(8)
    made = StatusLists(store, ring, "http://pki/{}".format, timedelta(minutes=5))

    def ask(_number: int) -> str:
        together.wait()
        return made.current(0, AT).token

    for revocation in range(2):
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(ask, range(8)))) == 1
        assert len(ring.claims) == revocation + 1
        revoke_one(store, store.certificates()[revocation].certificate)


def test_status_list_that_no_certificate_is_in_is_not_there(store: SqlStore) -> None:
    made = StatusLists(store, Ring(), "http://pki/{}".format, timedelta(minutes=5))

    for wrong in (1, LIST_SIZE, -1):
        with pytest.raises(NotFound) as refused:
            made.current(wrong, AT)
        assert refused.value.code is RefusalCode.STATUS_LIST_UNKNOWN
