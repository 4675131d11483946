"""What every store must do, whichever database is below; run for SQLite and for PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import insert, inspect

from attestation.identity import DeviceId
from tests.simulators.stored import (
    AT,
    a_device,
    a_document,
    a_judgement,
    a_progress,
    a_reference_set,
    a_result,
    put_enrolment,
)
from verifier.errors import Conflict
from verifier.ports import AccessToken, DeviceRecord, DocumentKind, StoredReferenceSets
from verifier.store.engine import make_engine
from verifier.store.migrate import _config, migrate
from verifier.store.reference_rows import reference_set_document
from verifier.store.sql_store import SqlStore, open_store
from verifier.store.tables import metadata, reference_sets

NAME = DeviceId("sn-0001")


def enrol(store: SqlStore, record: DeviceRecord) -> DeviceRecord:
    with store.work() as work:
        put_enrolment(work, record)
    found = store.device(record.device)
    assert found is not None
    return found


class StoreCases:
    """Inherited by one class for each database, which gives ``store``."""

    def test_device_is_read_as_it_was_written(self, store: SqlStore) -> None:
        assert enrol(store, a_device()) == replace(a_device(), version=1)

    def test_certificate_leads_to_its_device(self, store: SqlStore) -> None:
        record = enrol(store, a_device())

        assert store.device_by_certificate(record.certificate_sha256) == NAME
        assert store.device_by_certificate(bytes(32)) is None

    def test_device_that_exists_cannot_be_made_again(self, store: SqlStore) -> None:
        enrol(store, a_device())

        with pytest.raises(Conflict):
            enrol(store, a_device())

    def test_new_enrolment_over_a_row_that_moved_on_is_refused(self, store: SqlStore) -> None:
        record = enrol(store, a_device())
        enrol(store, a_device(version=record.version))

        with pytest.raises(Conflict):
            enrol(store, replace(a_device(version=record.version), certificate_sha256=b"x"))

    def test_failed_work_leaves_nothing(self, store: SqlStore) -> None:
        def half_done() -> None:
            with store.work() as work:
                put_enrolment(work, a_device())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            half_done()

        assert store.device(NAME) is None

    def test_judgement_writes_result_clock_evidence_log_and_outbox(self, store: SqlStore) -> None:
        enrol(store, a_device())
        judgement = a_judgement()

        assert store.record([judgement]) == [True]

        record = store.device(NAME)
        assert record is not None
        assert (record.seq, record.version) == (1, 2)
        assert record.enrolment.last_seen == judgement.last_seen
        assert store.newest_result(NAME) == judgement.result
        assert store.last_evidence(NAME) == b"evidence 1"
        assert store.firmware_log(judgement.firmware_log[0]) == b"log"  # type: ignore[index]
        assert [row.result for row in store.waiting(10)] == [judgement.result]

    def test_judgement_without_proof_of_freshness_keeps_the_clock(self, store: SqlStore) -> None:
        enrol(store, a_device())
        store.record([a_judgement()])
        before = store.device(NAME)

        assert store.record([a_judgement(seq=2, based_on=2, fresh=False)]) == [True]

        after = store.device(NAME)
        assert before is not None
        assert after is not None
        assert after.enrolment.last_seen == before.enrolment.last_seen
        assert after.seq == 2

    def test_proven_list_is_remembered_until_more_of_it_is(self, store: SqlStore) -> None:
        enrol(store, a_device())
        seen = []
        for seq, progress in enumerate((None, a_progress(5), None, a_progress(9)), 1):
            store.record([a_judgement(seq=seq, based_on=seq, progress=progress)])
            record = store.device(NAME)
            assert record is not None
            seen.append(record.enrolment.progress)

        assert seen == [None, a_progress(5), a_progress(5), a_progress(9)]

    def test_judgement_without_proof_of_freshness_keeps_the_list(self, store: SqlStore) -> None:
        enrol(store, a_device())
        store.record([a_judgement(progress=a_progress())])
        store.record([a_judgement(seq=2, based_on=2, fresh=False)])

        record = store.device(NAME)
        assert record is not None
        assert record.enrolment.progress == a_progress()

    def test_older_judgement_does_not_roll_the_list_back(self, store: SqlStore) -> None:
        enrol(store, a_device())
        older = a_judgement(progress=a_progress(5))
        assert store.record([a_judgement(progress=a_progress(9))]) == [True]

        assert store.record([older]) == [False]

        record = store.device(NAME)
        assert record is not None
        assert record.enrolment.progress == a_progress(9)

    def test_new_enrolment_says_anew_how_far_the_list_is_proven(self, store: SqlStore) -> None:
        first = a_device()
        proven = replace(first.enrolment, progress=a_progress(3))
        record = enrol(store, replace(first, enrolment=proven))
        assert record.enrolment.progress == a_progress(3)

        again = enrol(store, a_device(version=record.version))

        assert again.enrolment.progress is None

    def test_last_evidence_is_kept_with_what_it_goes_on_from(self, store: SqlStore) -> None:
        enrol(store, a_device())
        assert store.progress_before(NAME) is None
        assert store.progress_before(DeviceId("nobody")) is None

        going_on = replace(a_judgement(progress=a_progress(9)), progress_before=a_progress(5))
        store.record([going_on])
        assert store.progress_before(NAME) == a_progress(5)

        store.record([a_judgement(seq=2, based_on=2)])
        assert store.progress_before(NAME) is None

    def test_judgement_of_a_row_that_moved_on_is_refused_whole(self, store: SqlStore) -> None:
        enrol(store, a_device())
        enrol(store, a_device("sn-0002"))

        verdicts = store.record(
            [a_judgement(), a_judgement(), a_judgement("sn-0002"), a_judgement(based_on=9)]
        )

        assert verdicts == [True, False, True, False]
        assert len(store.history(NAME)) == 1
        assert store.waiting_count() == 2

    def test_judgement_of_an_unknown_device_is_refused(self, store: SqlStore) -> None:
        assert store.record([a_judgement("nobody")]) == [False]

    def test_one_judgement_recorded_by_many_threads_is_written_once(self, store: SqlStore) -> None:
        enrol(store, a_device())
        verdicts: list[bool] = []
        barrier = threading.Barrier(6)

        def record() -> None:
            barrier.wait()
            verdicts.extend(store.record([a_judgement()]))

        threads = [threading.Thread(target=record) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(verdicts) == [False] * 5 + [True]
        assert len(store.history(NAME)) == 1

    def test_revoked_device_refuses_a_judgement_made_before(self, store: SqlStore) -> None:
        enrol(store, a_device())
        with store.work() as work:
            assert work.revoke(NAME, "stolen", AT)

        record = store.device(NAME)
        assert record is not None
        assert (record.enrolment.revoked, record.revoked_reason) == (True, "stolen")
        assert store.record([a_judgement()]) == [False]

    def test_revocation_is_told(self, store: SqlStore) -> None:
        enrol(store, a_device())
        store.record([a_judgement()])
        store.delivered([row.number for row in store.waiting(10)])

        with store.work() as work:
            work.revoke(NAME, "stolen", AT)

        assert [row.revoked_reason for row in store.waiting(10)] == ["stolen"]

    def test_revoking_nobody_says_so(self, store: SqlStore) -> None:
        with store.work() as work:
            assert not work.revoke(DeviceId("nobody"), "x", AT)

    def test_outbox_keeps_order_until_delivered(self, store: SqlStore) -> None:
        enrol(store, a_device())
        for seq in (1, 2, 3):
            store.record([a_judgement(seq=seq, based_on=seq)])
        waiting = store.waiting(10)
        assert [row.result.seq for row in waiting] == [1, 2, 3]

        store.delivered([waiting[0].number])

        assert [row.result.seq for row in store.waiting(10)] == [2, 3]

    def test_newest_results_of_several_devices(self, store: SqlStore) -> None:
        for name in ("sn-0001", "sn-0002", "sn-0003"):
            enrol(store, a_device(name))
        store.record([a_judgement()])
        store.record([a_judgement(seq=2, based_on=2), a_judgement("sn-0002")])

        newest = store.newest_results([DeviceId(f"sn-000{number}") for number in (1, 2, 3)])

        assert {name: result.seq for name, result in newest.items()} == {
            "sn-0001": 2,
            "sn-0002": 1,
        }
        assert [record.device for record in store.devices(after="sn-0001")] == [
            "sn-0002",
            "sn-0003",
        ]

    def test_old_results_go_but_the_newest_and_the_untold_stay(self, store: SqlStore) -> None:
        enrol(store, a_device())
        for seq in (1, 2, 3):
            store.record([a_judgement(seq=seq, based_on=seq)])
        store.delivered([store.waiting(1)[0].number])

        assert store.forget_results(AT + timedelta(days=1)) == 1
        assert [result.seq for result in store.history(NAME)] == [3, 2]

    def test_old_logs_go_but_those_that_a_last_evidence_names_stay(self, store: SqlStore) -> None:
        logs = {name: hashlib.sha256(name).digest() for name in (b"gone", b"named", b"new")}
        enrol(store, a_device())
        enrol(store, a_device("sn-0002"))
        for seq, (name, digest) in enumerate(logs.items(), 1):
            at = AT + timedelta(days=2) if name == b"new" else AT
            store.record(
                [
                    replace(
                        a_judgement(seq=seq, based_on=seq),
                        result=a_result(seq=seq, at=at),
                        firmware_log=(digest, name),
                        log_sha256=digest,
                    )
                ]
            )
        store.record(
            [replace(a_judgement("sn-0002"), firmware_log=None, log_sha256=logs[b"named"])]
        )

        assert store.forget_logs(AT + timedelta(days=1)) == 1

        kept = {name: store.firmware_log(digest) for name, digest in logs.items()}
        assert kept == {b"gone": None, b"named": b"named", b"new": b"new"}
        assert store.forget_logs(AT + timedelta(days=1)) == 0

    def test_reference_sets_change_their_revision(self, store: SqlStore) -> None:
        before = store.reference_revision()
        with store.work() as work:
            work.put_reference_set(a_reference_set())
        between = store.reference_revision()
        with store.work() as work:
            work.put_reference_set(a_reference_set(version=2))

        both = (a_reference_set(version=2), a_reference_set())
        assert store.reference_sets() == StoredReferenceSets(sets=both)
        assert len({before, between, store.reference_revision()}) == 3
        with store.work() as work:
            assert work.remove_reference_set("golden", version=1)
        assert store.reference_sets().sets == (a_reference_set(version=2),)
        with store.work() as work:
            assert work.remove_reference_set("golden")
            assert not work.remove_reference_set("golden")
        assert store.reference_sets().sets == ()

    def test_reference_set_that_cannot_be_read_is_named_and_left_out(self, store: SqlStore) -> None:
        with store.work() as work:
            work.put_reference_set(a_reference_set())
            work.put_reference_set(a_reference_set("torn"))
            work._connection.exec_driver_sql(
                "UPDATE reference_sets SET document = 'x' WHERE name = 'torn'"
            )

        found = store.reference_sets()

        assert found.sets == (a_reference_set(),)
        assert [name for name, _ in found.unreadable] == ["torn/1"]

    def test_reference_set_in_another_ones_row_is_left_out(self, store: SqlStore) -> None:
        with store.work() as work:
            work.put_reference_set(a_reference_set())
            work._connection.exec_driver_sql("UPDATE reference_sets SET name = 'other'")

        found = store.reference_sets()

        assert (found.sets, found.unreadable[0][0]) == ((), "other/1")

    def test_documents_are_kept_by_kind_and_name(self, store: SqlStore) -> None:
        policy = a_document(DocumentKind.RUNTIME_POLICY, "edge")
        with store.work() as work:
            work.put_document(policy)
            work.put_document(a_document(DocumentKind.AIBOM, "edge"))
        before = store.reference_revision()
        with store.work() as work:
            work.put_document(replace(policy, version=2, document="new"))
        between = store.reference_revision()

        assert store.documents(DocumentKind.RUNTIME_POLICY) == [
            replace(policy, version=2, document="new")
        ]
        with store.work() as work:
            assert work.remove_document(DocumentKind.RUNTIME_POLICY, "edge")
            assert not work.remove_document(DocumentKind.RUNTIME_POLICY, "edge")
        assert store.documents(DocumentKind.RUNTIME_POLICY) == []
        assert len(store.documents(DocumentKind.AIBOM)) == 1
        assert len({before, between, store.reference_revision()}) == 3

    def test_token_names_are_unique(self, store: SqlStore) -> None:
        token = AccessToken(name="a", role="reader", sha256=bytes(32), created_at=AT)
        with store.work() as work:
            work.put_token(token)

        with pytest.raises(Conflict), store.work() as work:
            work.put_token(replace(token, sha256=bytes(31) + b"x"))

        assert store.tokens() == [token]
        assert store.token(bytes(32)) == token

    def test_result_is_read_as_it_was_written(self, store: SqlStore) -> None:
        enrol(store, a_device())
        store.record([a_judgement()])

        assert store.history(NAME) == [a_result()]

    def test_primary_keys_are_those_that_the_code_relies_on(self, store: SqlStore) -> None:
        found = inspect(store._engine)

        for table in metadata.sorted_tables:
            key = found.get_pk_constraint(table.name)
            assert set(key["constrained_columns"]) == set(table.primary_key.columns.keys())


def check_older_sets_are_kept(url: str) -> None:
    """Fill a store of the shape before several versions of a set, bring it up, and look."""
    engine = make_engine(url)
    command.upgrade(_config(engine), "0002")
    with engine.begin() as connection:
        connection.execute(
            insert(reference_sets).values(
                name="golden",
                version=7,
                created_us=1,
                document=reference_set_document(a_reference_set(version=7)),
            )
        )
    engine.dispose()

    assert migrate(url).up_to_date

    store = open_store(url, with_outbox=False)
    with store.work() as work:
        work.put_reference_set(a_reference_set(version=8))
    assert [one.id for one in store.reference_sets().sets] == ["golden/8", "golden/7"]
    store.close()
