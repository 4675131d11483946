"""The store on PostgreSQL: the same cases, and two verifiers on one database."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from attestation.refusals import RefusalCode
from tests.simulators.postgres import Postgres, postgres
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.stored import AT
from tests.simulators.trust_yard import TrustYard, without_idevid
from tests.simulators.verifier_site import VerifierSite
from tests.verifier.store.credential_cases import (
    CredentialCases,
    check_certificates_of_before_enter_the_log,
    followed,
)
from tests.verifier.store.issuing_cases import IssuingCases
from tests.verifier.store.store_cases import StoreCases, check_older_sets_are_kept
from verifier.errors import Conflict, Unavailable
from verifier.ports import AccessToken
from verifier.ports.credentials import PublishedList
from verifier.store.engine import CONNECTIONS, IDLE_S, STILL_S
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store
from verifier.store.unit_of_work import Work

__all__ = ["postgres"]
pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    migrate(url)
    opened = open_store(url, with_outbox=True)
    yield opened
    opened.close()


class TestPostgres(StoreCases):
    """Every case, on PostgreSQL."""


class TestPostgresCredentials(CredentialCases):
    """Every case about credentials, on PostgreSQL."""


class TestPostgresIssuing(IssuingCases):
    """Every case about many issuances, on PostgreSQL."""


def test_replicas_that_start_together_migrate_once(url: str) -> None:
    program = "import sys; from verifier.store.migrate import migrate; migrate(sys.argv[1])"
    replicas = [
        subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE)
        for _ in range(4)
    ]

    faults = [replica.communicate(timeout=60)[1] for replica in replicas]

    assert [replica.returncode for replica in replicas] == [0] * 4, faults
    assert migrate(url).up_to_date


def test_older_reference_sets_are_kept(url: str) -> None:
    check_older_sets_are_kept(url)


def test_certificates_of_before_enter_the_log(url: str) -> None:
    check_certificates_of_before_enter_the_log(url)


def end_connections(url: str) -> None:
    """End every connection to a database, as a restart of the server does."""
    parsed = make_url(url)
    where = f"user={parsed.username} host={parsed.query['host']} dbname=postgres"
    with psycopg.connect(where) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [parsed.database],
        )


def test_connections_that_ended_while_nobody_asked_are_made_anew(store: SqlStore, url: str) -> None:
    store.ping()
    end_connections(url)
    time.sleep(IDLE_S)

    store.ping()


def test_connections_of_a_busy_store_are_made_anew_by_the_first_question(
    store: SqlStore, url: str
) -> None:
    with store.work(), store.work():
        store.ping()
    end_connections(url)

    with pytest.raises(Unavailable):
        store.ping()
    with store.work(), store.work():
        store.ping()


def test_store_whose_connections_are_all_in_use_is_unavailable(store: SqlStore) -> None:
    """The writers ask one by one again after any other fault: that would be an hour's work."""
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(store.work())

        with pytest.raises(Unavailable, match="connection"):
            store.ping()

    store.ping()


def test_transaction_in_which_a_statement_failed_is_never_called_written(store: SqlStore) -> None:
    """PostgreSQL answers COMMIT of such a transaction by ROLLBACK, and without an error."""
    token = AccessToken(name="reader", role="reader", sha256=bytes(32), created_at=AT)

    def swallow(work: Work) -> None:
        work.put_token(token)
        with suppress(Conflict):
            work.put_token(token)

    with pytest.raises(RuntimeError, match="rolled back"), store.work() as work:
        swallow(work)

    assert store.tokens() == []


def test_replica_that_stands_still_in_a_transaction_does_not_hold_up_the_others(
    store: SqlStore, url: str
) -> None:
    """A virtual machine that was paused while it held the issuance log's row."""
    replica = open_store(url, with_outbox=False)

    def other() -> None:
        with replica.work() as work:
            work.append_log("test", {"by": "other"}, AT)

    later = threading.Thread(target=other)

    def paused(work: Work) -> None:
        work.append_log("test", {"by": "paused"}, AT)
        later.start()
        later.join(STILL_S + 5)

    with pytest.raises(Unavailable), store.work() as work:
        paused(work)
    replica.close()

    assert [one.entry for one in store.log_entries()] == ['{"by":"other"}']


def test_connection_that_is_lost_before_a_rollback_does_not_hide_the_cause(
    store: SqlStore, url: str
) -> None:
    def refused(work: Work) -> None:
        work.append_log("test", {}, AT)
        end_connections(url)
        raise Conflict(RefusalCode.CONFLICT, "the cause")

    with pytest.raises(Conflict), store.work() as work:
        refused(work)

    with store.work() as work:
        work.append_log("test", {"by": "next"}, AT)
    assert [one.number for one in store.log_entries()] == [1]


def test_first_lists_of_two_replicas_at_once_are_one(store: SqlStore, url: str) -> None:
    mine = PublishedList(
        issuer_sha256=bytes(32), number=1, der=b"1", this_update=AT, next_update=AT, revision=1
    )
    replica, taken = open_store(url, with_outbox=False), list[bool]()

    def other() -> None:
        with replica.work() as work:
            taken.append(work.put_list(replace(mine, der=b"2")))

    with store.work() as work:
        taken.append(work.put_list(mine))
        later = threading.Thread(target=other)
        later.start()
        time.sleep(0.3)  # until it waits for the row
    later.join(10)
    replica.close()

    assert taken == [True, False]
    assert store.published_list(bytes(32)) == mine


def test_device_attests_to_a_verifier_on_postgres(tmp_path: Path, url: str) -> None:
    with VerifierSite(tmp_path, SoftManufacturer(), store=url) as site:
        device = site.device()
        assert device.enrol().status == 201

        assert [device.attest().json["status"] for _ in range(3)] == ["warning"] * 3


def test_verifier_goes_on_from_a_dump_of_its_database(
    tmp_path: Path, url: str, postgres: Postgres
) -> None:
    with VerifierSite(tmp_path, SoftManufacturer(), store=url) as site:
        device, impostor = site.device("OLD-1"), site.device("OLD-1")
        assert device.enrol().status == 201
        assert device.attest().status == 200
    site.config.write_text(site.config.read_text().replace(url, postgres.restored_dump(url)))

    with site:
        device.reconnect()
        assert device.attest().json["status"] == "warning"
        assert impostor.enrol().json["code"] == "device-id-taken"
        assert site.device("NEW-1").enrol().status == 201
        chain = followed(list(site.running.store.log_entries()))

    assert chain.number == 2


def test_identity_claimed_twice_is_alarmed_and_an_activation_is_tried_once_over_replicas(
    tmp_path: Path, url: str
) -> None:
    yard = TrustYard(tmp_path, store=url)
    with yard.site, yard.site.replica() as twin:
        first, second, ek = yard.device("BOTH-1"), yard.device("BOTH-2"), yard.certified_ek()
        assert yard.enrol(first, ek=ek).status == 201
        taken = yard.enrol(second, ek=ek)
        begun = yard.begin(yard.site.client(), second, yard.listed).json
        request = replace(
            without_idevid(second.enrolment_request(begun)),
            ek=yard.activated(begun, second, yard.listed),
        )
        here = yard.send(yard.site.client(), second, request)
        there = yard.send(twin.client(), second, request)

        assert (taken.status, taken.json["code"]) == (409, "identity-taken")
        assert [(one.code, one.subject) for one in yard.site.running.store.alarms()] == [
            ("identity-taken", "both-2")
        ]
        assert here.status == 201
        assert there.json["code"] == "credential-activation-spent"


def test_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://tester@/nothing?host={tmp_path}"

    with pytest.raises(Unavailable):
        open_store(url, with_outbox=True).ping()
