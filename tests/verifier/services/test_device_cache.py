"""Which certificates stand for a device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulators.stored import (
    AT,
    a_certificate,
    a_device,
    a_judgement,
    a_progress,
    put_enrolment,
)
from verifier.errors import NotAuthenticated, NotAuthorised
from verifier.issuance.reasons import Reason
from verifier.services.devices import DeviceCache
from verifier.sources import revocation_policy_named
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store

DER = b"a certificate"
RECORD = replace(a_device(), certificate_sha256=hashlib.sha256(DER).digest())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    opened = open_store(url, with_outbox=False)
    with opened.work() as work:
        put_enrolment(work, RECORD)
    yield opened
    opened.close()


def test_current_certificate_stands_for_its_device(store: SqlStore) -> None:
    assert DeviceCache(store).by_certificate(DER, AT).device == "sn-0001"


def test_certificate_that_has_ended_does_not(store: SqlStore) -> None:
    with pytest.raises(NotAuthorised) as caught:
        DeviceCache(store).by_certificate(DER, RECORD.certificate_not_after)

    assert caught.value.code == "certificate-expired"


def test_device_past_its_planned_end_does_not(store: SqlStore) -> None:
    """Whether or not the revocation policy has had it revoked by then."""
    ends = AT + timedelta(days=1)
    with store.work() as work:
        assert work.decommission(RECORD.device, ends, AT)
    cache = DeviceCache(store)
    assert cache.by_certificate(DER, ends - timedelta(seconds=1)).device == RECORD.device

    for attesting in (False, True):
        with pytest.raises(NotAuthorised) as caught:
            cache.by_certificate(DER, ends, attesting=attesting)
        assert caught.value.code == "device-decommissioned"


def test_foreign_certificate_does_not(store: SqlStore) -> None:
    with pytest.raises(NotAuthenticated):
        DeviceCache(store).by_certificate(b"another", AT)


def test_committed_judgement_is_seen_without_asking_the_store(store: SqlStore) -> None:
    cache = DeviceCache(store)
    judgement = a_judgement()
    cache.judged(cache.by_certificate(DER, AT), judgement)

    record = cache.by_certificate(DER, AT + timedelta(seconds=1))

    assert (record.seq, record.version) == (1, 2)
    assert record.enrolment.last_seen == judgement.last_seen


def test_memory_is_bounded(store: SqlStore) -> None:
    cache = DeviceCache(store, capacity=1)
    other = replace(a_device("sn-0002"), certificate_sha256=hashlib.sha256(b"other").digest())
    with store.work() as work:
        put_enrolment(work, other)

    cache.by_certificate(DER, AT)
    cache.by_certificate(b"other", AT)

    assert not cache.in_memory(DER)
    assert cache.in_memory(b"other")


def test_judgement_moves_the_list_on_and_one_without_proof_keeps_it(store: SqlStore) -> None:
    cache = DeviceCache(store)
    seen = []
    for seq, (progress, fresh) in enumerate(
        [(a_progress(5), True), (None, True), (None, False), (a_progress(9), True)], 1
    ):
        judgement = a_judgement(seq=seq, based_on=seq, fresh=fresh, progress=progress)
        cache.judged(cache.by_certificate(DER, AT), judgement)
        record = cache.by_certificate(DER, AT)
        seen.append(record.enrolment.progress)

    assert seen == [a_progress(5), a_progress(5), a_progress(5), a_progress(9)]


def revoked(store: SqlStore, code: int) -> DeviceCache:
    """A cache over a device that was judged contraindicated and lost its certificate."""
    store.record([a_judgement()])
    with store.work() as work:
        work.revoke_certificate(RECORD.certificate_sha256, code, "test", AT)
    return DeviceCache(store)


def test_certificate_that_fell_with_the_evidence_attests_and_is_not_kept(store: SqlStore) -> None:
    cache = revoked(store, Reason.PRIVILEGE_WITHDRAWN)

    record = cache.by_certificate(DER, AT, attesting=True)
    cache.judged(record, a_judgement(seq=2, based_on=record.version))

    assert record.withdrawn
    assert not cache.in_memory(DER)


def test_certificate_that_fell_with_the_evidence_does_nothing_else(store: SqlStore) -> None:
    cache = revoked(store, Reason.PRIVILEGE_WITHDRAWN)
    cache.by_certificate(DER, AT, attesting=True)

    with pytest.raises(NotAuthorised) as caught:
        cache.by_certificate(DER, AT)

    assert caught.value.code == "certificate-revoked"


@pytest.mark.parametrize("code", [one for one in Reason if one != Reason.PRIVILEGE_WITHDRAWN])
def test_certificate_that_was_revoked_for_its_key_does_not_attest(
    store: SqlStore, code: Reason
) -> None:
    with pytest.raises(NotAuthorised) as caught:
        revoked(store, code).by_certificate(DER, AT, attesting=True)

    assert caught.value.code in {"certificate-revoked", "client-certificate-wrong"}


def test_certificate_that_fell_does_not_attest_once_its_device_is_well(store: SqlStore) -> None:
    cache = revoked(store, Reason.PRIVILEGE_WITHDRAWN)
    record = cache.by_certificate(DER, AT, attesting=True)
    well = a_judgement(seq=2, based_on=record.version)
    store.record([replace(well, result=replace(well.result, status=2))])

    with pytest.raises(NotAuthorised) as caught:
        cache.by_certificate(DER, AT, attesting=True)

    assert caught.value.code == "certificate-revoked"


def test_device_that_just_fell_is_looked_up_again(store: SqlStore) -> None:
    cache = DeviceCache(store)
    fallen = revocation_policy_named("revocation-default").consequence("contraindicated", "PCR 4")

    cache.judged(cache.by_certificate(DER, AT), replace(a_judgement(), consequence=fallen))

    assert not cache.in_memory(DER)


@pytest.mark.parametrize("in_memory", [True, False])
def test_judgement_over_an_older_certificate_brings_no_revoked_one_into_memory(
    store: SqlStore, *, in_memory: bool
) -> None:
    newer = replace(RECORD, certificate_sha256=hashlib.sha256(b"newer").digest(), version=1)
    with store.work() as work:  # with an overlap: the older certificate is still good
        work.enrol(newer)
        work.issue(a_certificate(newer), {}, AT)
    cache = DeviceCache(store)
    if in_memory:
        cache.by_certificate(b"newer", AT)
    with store.work() as work:
        work.revoke_certificate(newer.certificate_sha256, Reason.KEY_COMPROMISE, "test", AT)

    record = cache.by_certificate(DER, AT)
    judgement = a_judgement(based_on=record.version)
    assert store.record([judgement]) == [True]
    cache.judged(record, judgement)

    with pytest.raises(NotAuthorised) as caught:
        cache.by_certificate(b"newer", AT)
    assert caught.value.code == "certificate-revoked"


def test_certificate_that_fell_does_not_attest_once_its_key_is_known_to_be_elsewhere(
    store: SqlStore,
) -> None:
    cache = revoked(store, Reason.PRIVILEGE_WITHDRAWN)
    assert cache.by_certificate(DER, AT, attesting=True).withdrawn

    with store.work() as work:
        work.revoke_certificate(RECORD.certificate_sha256, Reason.KEY_COMPROMISE, "stolen", AT)

    with pytest.raises(NotAuthorised) as caught:
        cache.by_certificate(DER, AT, attesting=True)
    assert caught.value.code == "certificate-revoked"
