"""The store whole: reading, units of work, judgements, outbox, and its own upkeep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from sqlalchemy import Connection, Engine, and_, delete, exists, select
from sqlalchemy.exc import SQLAlchemyError

from verifier.errors import Conflict
from verifier.ports import DeviceIssuance, Judgement
from verifier.store import rows
from verifier.store.engine import in_transaction, make_engine, require_sound, store_errors
from verifier.store.issuing import Issuing
from verifier.store.reading import Reading
from verifier.store.tables import (
    devices,
    evidence,
    firmware_logs,
    outbox,
    results,
    spent_activations,
)
from verifier.store.unit_of_work import Work


class SqlStore(Reading):
    """SQLite or PostgreSQL behind the ``Store`` and ``OutboxStore`` ports.

    Args:
        engine: From :func:`verifier.store.engine.make_engine`.
        with_outbox: Whether recorded results are to be told (somebody empties the outbox).
    """

    def __init__(self, engine: Engine, *, with_outbox: bool) -> None:
        super().__init__(engine)
        self._with_outbox = with_outbox

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Open a writing transaction; SQLite takes its write lock at once."""
        with store_errors(), self._engine.connect() as connection:
            is_sqlite = connection.dialect.name == "sqlite"
            connection.exec_driver_sql("BEGIN IMMEDIATE" if is_sqlite else "BEGIN")
            try:
                yield connection
                require_sound(connection)
            except BaseException:
                # A full disk makes SQLite roll back by itself, a lost connection its server; a
                # second one would hide the cause.
                if in_transaction(connection):
                    with suppress(SQLAlchemyError):  # the pool does not keep such a connection
                        connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Open a transaction: committed at the end, rolled back on an exception."""
        with self._transaction() as connection:
            yield Work(connection, with_outbox=self._with_outbox)

    def record(self, judgements: Sequence[Judgement]) -> Sequence[bool]:
        """Write several judgements in one transaction; False where a row had moved on."""
        with self._transaction() as connection:
            return Work(connection, with_outbox=self._with_outbox).record(judgements)

    def issue_all(self, items: Sequence[DeviceIssuance]) -> Sequence[int | Conflict]:
        """Write several issuances in one transaction: entry numbers, or why one was refused."""
        with self._transaction() as connection:
            return Issuing(connection, with_outbox=self._with_outbox).issue_all(items)

    def delivered(self, numbers: Sequence[int]) -> None:
        """Forget rows that the broker has acknowledged."""
        with self._transaction() as connection:
            connection.execute(delete(outbox).where(outbox.c.number.in_(numbers)))

    def forget_results(self, older_than: datetime) -> int:
        """Drop old results that are neither a device's newest nor waiting in the outbox.

        Returns:
            How many were dropped.
        """
        newest = exists().where(
            and_(devices.c.device_id == results.c.device_id, devices.c.seq == results.c.seq)
        )
        untold = exists().where(
            and_(outbox.c.device_id == results.c.device_id, outbox.c.seq == results.c.seq)
        )
        query = delete(results).where(results.c.at_us < rows.to_us(older_than), ~newest, ~untold)
        with self._transaction() as connection:
            return connection.execute(query).rowcount

    def forget_logs(self, older_than: datetime) -> int:
        """Drop firmware logs that are old and that no device's last evidence names.

        A device that comes back to such a log is asked to send it whole.

        Returns:
            How many were dropped.
        """
        named = exists().where(evidence.c.log_sha256 == firmware_logs.c.sha256)
        query = delete(firmware_logs).where(
            firmware_logs.c.first_seen_us < rows.to_us(older_than), ~named
        )
        with self._transaction() as connection:
            return connection.execute(query).rowcount

    def forget_activations(self, ended_before: datetime) -> int:
        """Drop tried credential activations that have ended.

        Returns:
            How many were dropped.
        """
        query = delete(spent_activations).where(
            spent_activations.c.ends_us < rows.to_us(ended_before)
        )
        with self._transaction() as connection:
            return connection.execute(query).rowcount

    def ping(self) -> None:
        """Ask the database for a sign of life; raises Unavailable."""
        with self._open() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Close the pool."""
        self._engine.dispose()


def open_store(url: str, *, with_outbox: bool) -> SqlStore:
    """Open the store at a URL; the tables must be there (see ``verifier.store.migrate``)."""
    return SqlStore(make_engine(url), with_outbox=with_outbox)
