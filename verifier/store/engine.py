"""SQLite and PostgreSQL engines: pragmas, pool, and errors in our words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    DBAPIError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from attestation.refusals import RefusalCode
from verifier.errors import Unavailable

BUSY_TIMEOUT_MS: Final = 5_000
"""How long one SQLite connection waits for another's write lock."""

CONNECT_TIMEOUT_S: Final = 5
"""How long a PostgreSQL connection may take."""

CONNECTIONS: Final = 16
"""Connections kept open, the last used first: to make one costs more than many questions."""

IDLE_S: Final = 2.0
"""After so long a PostgreSQL connection is asked for a sign of life before it is used again."""

STILL_S: Final = 10
"""After so long without a statement PostgreSQL ends a transaction: a replica that stands still (a
paused machine) must not hold the issuance log's row, for which all others wait."""

_ANSWERED: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that answers no packet for 20 to 25 s is gone, whatever a statement is waiting for."""

_USED: Final = "used"


def make_engine(url: str) -> Engine:
    """Open an engine; connects only when first used.

    SQLite: WAL so that readers never wait, ``synchronous=FULL`` so that what was answered
    survives a power cut, foreign keys on. On both databases a question is one statement outside
    any transaction, and the store begins and ends its own (see ``SqlStore._transaction``):
    PostgreSQL is spared the two round trips around each question.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``.
    """
    if url.startswith("sqlite"):
        engine = create_engine(
            url,
            connect_args={"timeout": BUSY_TIMEOUT_MS / 1000},
            isolation_level="AUTOCOMMIT",
            query_cache_size=500,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_use_lifo=True,
        )
        event.listen(engine, "connect", _set_pragmas)
        return engine
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, **_ANSWERED},
    )
    event.listen(engine, "connect", _end_what_stands_still)
    event.listen(engine, "checkout", partial(_ask_if_idle, engine))
    event.listen(engine, "checkin", _note_use)
    return engine


def _end_what_stands_still(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{STILL_S}s'")
    cursor.close()


def _ask_if_idle(
    engine: Engine,
    connection: DBAPIConnection,
    entry: ConnectionPoolEntry,
    _fairy: PoolProxiedConnection,
) -> None:
    """Ask for a sign of life where a connection has not been used for a while.

    A round trip before each question would be half of its cost; whatever ends the connections of a
    busy pool, as a server's restart does, is found by the first question after it.

    Raises:
        InvalidatePoolError: If there is none; all connections are made anew.
    """
    used = entry.info.get(_USED)
    if used is None or time.monotonic() - used < IDLE_S:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        raise InvalidatePoolError from error


def _note_use(_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    entry.info[_USED] = time.monotonic()


def in_transaction(connection: Connection) -> bool:
    """Whether the database has a transaction open on this connection."""
    if connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        return driver.info.transaction_status in {
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        }
    return bool(driver.in_transaction)


def require_sound(connection: Connection) -> None:
    """Refuse to commit a transaction in which a statement failed.

    PostgreSQL answers its COMMIT by a ROLLBACK, and without an error: what was written before would
    be lost, and nobody told.

    Raises:
        RuntimeError: If so. Whoever goes on after a failed statement has a fault.
    """
    driver: Any = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        status = driver.info.transaction_status
        if status is not TransactionStatus.INTRANS:
            raise RuntimeError(f"nothing was written: the transaction is rolled back ({status!r})")


def _set_pragmas(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "temp_store = MEMORY",
        "cache_size = -65536",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the driver's troubles into Unavailable; our own mistakes stay what they are.

    Raises:
        Unavailable: If the database cannot be reached, is locked, full or read-only, or all
            connections are in use.
    """
    try:
        yield
    except NoneFree as error:
        raise Unavailable(
            RefusalCode.STORE_UNAVAILABLE, "the store: no connection became free; try again shortly"
        ) from error
    except OperationalError as error:
        raise Unavailable(RefusalCode.STORE_UNAVAILABLE, _first_line(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable(RefusalCode.STORE_UNAVAILABLE, _first_line(error)) from error
        raise
    except sqlite3.OperationalError as error:
        raise Unavailable(RefusalCode.STORE_UNAVAILABLE, f"the store: {error}") from error


def _first_line(error: SQLAlchemyError) -> str:
    text: Any = getattr(error, "orig", None) or error
    return f"the store: {str(text).strip().splitlines()[0][:200]}"
