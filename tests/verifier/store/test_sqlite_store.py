"""The store on SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from tests.simulators.stored import a_device, a_judgement
from tests.verifier.store.credential_cases import (
    CredentialCases,
    check_certificates_of_before_enter_the_log,
)
from tests.verifier.store.issuing_cases import IssuingCases
from tests.verifier.store.store_cases import StoreCases, check_older_sets_are_kept, enrol
from verifier.errors import Unavailable
from verifier.ports import Judgement
from verifier.store.engine import make_engine
from verifier.store.group_commit import GroupCommit
from verifier.store.migrate import migrate, schema_state
from verifier.store.sql_store import SqlStore, open_store
from verifier.store.tables import metadata


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path}/store.db"
    migrate(made)
    return made


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url, with_outbox=True)
    yield opened
    opened.close()


class TestSqlite(StoreCases):
    """Every case, on SQLite."""


class TestSqliteCredentials(CredentialCases):
    """Every case about credentials, on SQLite."""


class TestSqliteIssuing(IssuingCases):
    """Every case about many issuances, on SQLite."""


def test_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    engine = make_engine(url)
    found = inspect(engine)

    for table in metadata.sorted_tables:
        columns = {column["name"]: column for column in found.get_columns(table.name)}
        assert set(columns) == {column.name for column in table.columns}, table.name
        for column in table.columns:
            assert columns[column.name]["nullable"] == bool(column.nullable), column
    assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
    engine.dispose()


def test_older_reference_sets_are_kept(tmp_path: Path) -> None:
    check_older_sets_are_kept(f"sqlite:///{tmp_path}/older.db")


def test_certificates_of_before_enter_the_log(tmp_path: Path) -> None:
    check_certificates_of_before_enter_the_log(f"sqlite:///{tmp_path}/older.db")


def test_migration_twice_changes_nothing(url: str) -> None:
    assert migrate(url).up_to_date


def test_store_without_tables_is_recognised(tmp_path: Path) -> None:
    state = schema_state(f"sqlite:///{tmp_path}/empty.db")

    assert (state.current, state.up_to_date) == ("", False)


def test_connections_are_durable_and_keep_foreign_keys(url: str) -> None:
    engine = make_engine(url)
    with engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()

    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


def test_store_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open"):
        open_store(f"sqlite:///{tmp_path}/no/such/store.db", with_outbox=True).ping()


def test_full_disk_is_unavailable(store: SqlStore) -> None:
    enrol(store, a_device())
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    heavy = replace(a_judgement(), evidence=bytes(1_000_000))

    with pytest.raises(Unavailable, match="full"):
        store.record([heavy])

    assert store.history(heavy.result.device) == []


def test_group_commit_gives_each_caller_its_own_verdict(store: SqlStore) -> None:
    enrol(store, a_device())
    woken: list[int] = []
    committer = GroupCommit(store.record, lambda: woken.append(1))

    def broken() -> object:
        raise ZeroDivisionError

    first = committer.submit(a_judgement)
    failed = committer.submit(broken)  # type: ignore[arg-type]
    stale = committer.submit(lambda: a_judgement(based_on=1))

    assert first.result(10) == a_judgement()
    assert stale.result(10) is None
    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    committer.close()
    assert woken
    assert not committer.alive


def test_group_commit_passes_a_store_failure_on_and_lives(store: SqlStore) -> None:
    failing = [True]

    def record(judgements: object) -> list[bool]:
        if failing[0]:
            raise Unavailable(RefusalCode.STORE_UNAVAILABLE, "gone")
        return [True]

    committer = GroupCommit(record, lambda: None)
    with pytest.raises(Unavailable):
        committer.submit(a_judgement).result(10)
    failing[0] = False

    assert committer.submit(a_judgement).result(10) == a_judgement()
    committer.close()


def test_judgement_that_cannot_be_written_does_not_take_its_group_along(store: SqlStore) -> None:
    """Whatever one device makes unwritable, the devices that share its transaction are recorded."""
    for name in ("sn-0000", "sn-0001", "sn-0002"):
        enrol(store, a_device(name))
    begun, filled = threading.Event(), threading.Event()
    sizes: list[int] = []

    def record(group: Sequence[Judgement]) -> Sequence[bool]:
        sizes.append(len(group))
        begun.set()
        assert filled.wait(10)
        return store.record(group)

    honest, unwritable = a_judgement("sn-0001"), a_judgement("sn-0002")
    assert unwritable.last_seen is not None
    clock = replace(unwritable.last_seen.clock, clock_ms=2**64 - 1)
    unwritable = replace(unwritable, last_seen=replace(unwritable.last_seen, clock=clock))
    committer = GroupCommit(record, lambda: None)
    committer.submit(lambda: a_judgement("sn-0000"))
    assert begun.wait(10)
    answers = [committer.submit(lambda one=one: one) for one in (honest, unwritable)]  # type: ignore[misc]
    last_decided = threading.Event()

    def last() -> Judgement:
        last_decided.set()
        return a_judgement("sn-0001", seq=2, based_on=2)

    answers.append(committer.submit(last))
    assert last_decided.wait(10)
    filled.set()

    assert answers[0].result(10) == honest
    with pytest.raises(OverflowError):
        answers[1].result(10)
    assert answers[2].result(10) is not None
    assert max(sizes) > 1
    assert [one.seq for one in store.history(DeviceId("sn-0001"))] == [2, 1]
    committer.close()


def test_caller_that_went_away_does_not_end_the_writer(store: SqlStore) -> None:
    enrol(store, a_device())
    gone = threading.Event()

    def slow() -> Judgement:
        assert gone.wait(10)
        return a_judgement()

    committer = GroupCommit(store.record, lambda: None)
    committer.submit(slow).cancel()
    gone.set()

    assert committer.submit(lambda: a_judgement(seq=2, based_on=2)).result(10) is not None
    assert committer.alive
    committer.close()
