"""What every store must do with many issuances at once; run for SQLite and for PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode as Code
from tests.simulators.stored import AT, a_certificate, a_device, a_judgement, a_progress
from tests.verifier.store.credential_cases import an_agent, followed
from verifier.errors import Conflict
from verifier.ports import DeviceIssuance
from verifier.ports.credentials import SUPERSEDED, IdentityClaim
from verifier.services.issue import issued_entry
from verifier.store.sql_store import SqlStore

LATER = AT + timedelta(hours=1)


def ek(value: bytes) -> IdentityClaim:
    return IdentityClaim(kind="ek", value=value * 32)


def an_issuance(name: str, version: int = 0, **changes: object) -> DeviceIssuance:
    record = a_device(name, version)
    certificate = a_certificate(record)
    made = DeviceIssuance(
        record=record,
        claims=(ek(name[-1:].encode()),),
        certificate=certificate,
        entry=issued_entry(certificate),
        older_end=AT,
        judgement=a_judgement(name, seq=version // 2 + 1, based_on=version + 1),
        at=AT,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def codes(outcomes: object) -> list[object]:
    assert isinstance(outcomes, list)
    return [one.code if isinstance(one, Conflict) else one for one in outcomes]


class IssuingCases:
    """Inherited by one class for each database, which gives ``store``."""

    def test_many_devices_are_written_whole(self, store: SqlStore) -> None:
        items = [an_issuance(f"sn-{number}") for number in range(5)]

        assert codes(store.issue_all(items)) == [1, 2, 3, 4, 5]

        for number, item in enumerate(items, 1):
            record = store.device(item.record.device)
            assert record is not None
            assert (record.version, record.seq) == (2, 1)
            assert record.certificate_sha256 == item.certificate.sha256
            found = store.certificate(item.certificate.sha256)
            assert found is not None
            assert (found.certificate, found.number) == (item.certificate, number)
            assert item.judgement is not None
            assert store.newest_result(item.record.device) == item.judgement.result
            assert store.last_evidence(item.record.device) == item.judgement.evidence
        assert followed(list(store.log_entries())).number == 5

    def test_planned_ends_are_written_with_new_and_known_devices(self, store: SqlStore) -> None:
        ends = {"decommission_at": LATER, "decommission_told": True}
        planned = replace(a_device("sn-1"), **ends)  # type: ignore[arg-type]
        store.issue_all([an_issuance("sn-1", record=planned), an_issuance("sn-2")])
        known = replace(a_device("sn-2", 2), **ends)  # type: ignore[arg-type]
        store.issue_all([an_issuance("sn-2", 2, record=known), an_issuance("sn-3", judgement=None)])

        for name, wanted in (
            ("sn-1", (LATER, True)),
            ("sn-2", (LATER, True)),
            ("sn-3", (None, False)),
        ):
            record = store.device(DeviceId(name))
            assert record is not None
            assert (record.decommission_at, record.decommission_told) == wanted

    @pytest.mark.parametrize("fresh", [True, False])
    def test_first_judgement_leaves_the_row_that_a_later_one_would(
        self, store: SqlStore, *, fresh: bool
    ) -> None:
        first = replace(
            a_judgement("sn-1", fresh=fresh, progress=a_progress(9)),
            progress_before=a_progress(5),
            log_sha256=bytes(32),
        )
        store.issue_all([an_issuance("sn-1", judgement=first), an_issuance("sn-2", judgement=None)])
        store.record([replace(first, result=replace(first.result, device=DeviceId("sn-2")))])

        one, other = store.device(DeviceId("sn-1")), store.device(DeviceId("sn-2"))
        assert one is not None
        assert other is not None
        assert (one.version, one.seq) == (other.version, other.seq) == (2, 1)
        assert one.enrolment.last_seen == other.enrolment.last_seen
        assert one.enrolment.progress == other.enrolment.progress == a_progress(9)
        for name in ("sn-1", "sn-2"):
            assert store.progress_before(DeviceId(name)) == a_progress(5)
            assert store.last_evidence(DeviceId(name)) == first.evidence

    def test_device_without_evidence_is_written_without_a_result(self, store: SqlStore) -> None:
        item = an_issuance("sn-1", judgement=None)

        assert codes(store.issue_all([item])) == [1]

        record = store.device(item.record.device)
        assert record is not None
        assert (record.version, record.seq) == (1, 0)
        assert store.newest_result(item.record.device) is None

    def test_refused_issuance_leaves_nothing_and_harms_no_other(self, store: SqlStore) -> None:
        store.issue_all([an_issuance("sn-1")])
        before = an_issuance("sn-1")
        taken_serial = an_issuance("sn-2")
        taken_serial = replace(
            taken_serial,
            certificate=replace(taken_serial.certificate, serial=before.certificate.serial),
        )
        taken_key = an_issuance("sn-3")
        taken_key = replace(
            taken_key,
            certificate=replace(taken_key.certificate, spki_sha256=before.certificate.spki_sha256),
        )
        outcomes = store.issue_all(
            [
                before,
                taken_serial,
                taken_key,
                an_issuance("sn-4", claims=before.claims),
                an_issuance("sn-5", version=7),
                an_issuance("sn-6"),
            ]
        )

        assert codes(outcomes) == [
            Code.CONFLICT,
            Code.SERIAL_TAKEN,
            Code.KEY_ALREADY_CERTIFIED,
            Code.IDENTITY_TAKEN,
            Code.CONFLICT,
            2,
        ]
        assert [record.device for record in store.devices()] == ["sn-1", "sn-6"]
        assert [entry.number for entry in store.log_entries()] == [1, 2]

    def test_two_of_one_batch_cannot_be_the_same(self, store: SqlStore) -> None:
        one, same_key = an_issuance("sn-1"), an_issuance("sn-2")
        same_key = replace(
            same_key,
            certificate=replace(same_key.certificate, spki_sha256=one.certificate.spki_sha256),
        )
        same_serial = an_issuance("sn-4")
        same_serial = replace(
            same_serial,
            certificate=replace(same_serial.certificate, serial=one.certificate.serial),
        )
        outcomes = store.issue_all(
            [
                one,
                replace(one, claims=()),
                same_key,
                an_issuance("sn-3", claims=one.claims),
                same_serial,
            ]
        )

        assert codes(outcomes) == [
            1,
            Code.CONFLICT,
            Code.KEY_ALREADY_CERTIFIED,
            Code.IDENTITY_TAKEN,
            Code.SERIAL_TAKEN,
        ]

    def test_renewal_revokes_what_was_before_at_once(self, store: SqlStore) -> None:
        first = an_issuance("sn-1")
        store.issue_all([first])
        revision = store.revocation_revision()

        assert codes(store.issue_all([an_issuance("sn-1", version=2, at=LATER)])) == [2]

        old = store.certificate(first.certificate.sha256)
        assert old is not None
        assert (old.revoked_at, old.revoked_code) == (LATER, SUPERSEDED)
        assert [entry.kind for entry in store.log_entries()] == ["issued", "issued", "revoked"]
        assert followed(list(store.log_entries())).number == 3
        assert store.revocation_revision() > revision
        record = store.device(first.record.device)
        assert record is not None
        assert (record.version, record.seq) == (4, 2)

    def test_key_that_was_lost_is_never_certified_again(self, store: SqlStore) -> None:
        first = an_issuance("sn-1")
        store.issue_all([first])
        with store.work() as work:
            work.revoke_certificate(first.certificate.sha256, 1, "seen elsewhere", AT)
        record = store.device(first.record.device)
        assert record is not None
        again = an_issuance("sn-1", version=record.version)
        same_key = replace(again.certificate, spki_sha256=first.certificate.spki_sha256)

        refused = store.issue_all([replace(again, certificate=same_key)])

        assert codes(refused) == [Code.KEY_COMPROMISED]
        with pytest.raises(Conflict) as alone, store.work() as work:
            work.issue(same_key, issued_entry(same_key), AT)
        assert alone.value.code is Code.KEY_COMPROMISED
        assert codes(store.issue_all([again])) == [3]

    def test_renewal_with_overlap_plans_the_end(self, store: SqlStore) -> None:
        first = an_issuance("sn-1")
        store.issue_all([first])

        store.issue_all([an_issuance("sn-1", version=2, older_end=LATER)])

        old = store.certificate(first.certificate.sha256)
        assert old is not None
        assert (old.revoked_at, old.ends_at) == (None, LATER)
        assert list(store.due(AT, 10)) == []
        assert [one.certificate.sha256 for one in store.due(LATER, 10)] == [old.certificate.sha256]

    def test_planned_end_is_never_moved_back(self, store: SqlStore) -> None:
        first = an_issuance("sn-1")
        store.issue_all([first])
        store.issue_all([an_issuance("sn-1", version=2, older_end=LATER)])

        much_later = LATER + timedelta(days=1)
        store.issue_all([an_issuance("sn-1", version=4, older_end=much_later)])

        old = store.certificate(first.certificate.sha256)
        assert old is not None
        assert old.ends_at == LATER

    def test_own_claims_may_be_repeated(self, store: SqlStore) -> None:
        store.issue_all([an_issuance("sn-1")])
        again = an_issuance("sn-1", version=2, claims=(ek(b"1"), ek(b"1"), ek(b"n")))

        assert codes(store.issue_all([again])) == [2]
        assert codes(store.issue_all([an_issuance("sn-2", claims=(ek(b"n"),))])) == [
            Code.IDENTITY_TAKEN
        ]

    @pytest.mark.parametrize("writers", [4])
    def test_writers_at_the_same_time_keep_one_chain(self, store: SqlStore, writers: int) -> None:
        def write(writer: int) -> list[object]:
            return [
                outcome
                for batch in range(5)
                for outcome in codes(
                    store.issue_all(
                        [
                            an_issuance(f"sn-{writer}-{batch}-{number}", claims=())
                            for number in range(3)
                        ]
                    )
                )
            ]

        with ThreadPoolExecutor(writers) as pool:
            numbers = [one for part in pool.map(write, range(writers)) for one in part]

        assert sorted(map(str, numbers), key=int) == [str(one + 1) for one in range(60)]
        assert followed(list(store.log_entries())).number == 60

    def test_agent_and_device_that_are_written_at_once_wait_for_each_other(
        self, store: SqlStore
    ) -> None:
        """Whoever issues takes log and rows in one order: nobody waits in a circle."""
        store.issue_all([an_issuance("sn-1")])
        renewal = an_issuance("sn-1", version=2)

        with ThreadPoolExecutor(1) as pool:
            with store.work() as work:
                work.hold_device(renewal.record.device, 2)
                waiting = pool.submit(store.issue_all, [renewal])
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.5)
                number = work.append_log("authority", {"what": "an agent"}, AT).number
            outcome = codes(waiting.result(timeout=30))

        assert (number, outcome) == (2, [3])

    def test_agent_that_is_renewed_and_revoked_at_once_ends_revoked(self, store: SqlStore) -> None:
        issuance = an_issuance("sn-1")
        store.issue_all([issuance])
        before = an_agent("planner", device=issuance.record.device)
        with store.work() as work:
            work.put_agent(before)

        def revoke() -> bool:
            with store.work() as work:
                return work.revoke_agent(before.device, "planner", 0, "gone", AT)

        with ThreadPoolExecutor(1) as pool:
            with store.work() as work:
                work.hold_device(before.device, 2)
                revoking = pool.submit(revoke)
                with pytest.raises(TimeoutError):
                    revoking.result(timeout=0.5)
                work.put_agent(replace(before, version=1))
            assert revoking.result(timeout=30)

        found = store.agent(before.device, "planner")
        assert found is not None
        assert found.revoked_reason == "gone"
