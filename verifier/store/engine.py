"""SQLite and PostgreSQL engines: pragmas, pool, and errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from attestation.refusals import RefusalCode
from verifier.errors import Unavailable

BUSY_TIMEOUT_MS: Final = 5_000
"""How long one SQLite connection waits for another's write lock."""

CONNECT_TIMEOUT_S: Final = 5
"""How long a PostgreSQL connection may take."""


def make_engine(url: str) -> Engine:
    """Open an engine; connects only when first used.

    SQLite: WAL so that readers never wait, ``synchronous=FULL`` so that what was answered
    survives a power cut, foreign keys on. Transactions begin by ``BEGIN IMMEDIATE`` where the
    store asks for it (see :func:`writing`).

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``.
    """
    if url.startswith("sqlite"):
        engine = create_engine(
            url,
            connect_args={"timeout": BUSY_TIMEOUT_MS / 1000},
            isolation_level="AUTOCOMMIT",
            query_cache_size=500,
        )
        event.listen(engine, "connect", _set_pragmas)
        return engine
    return create_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_pre_ping=True,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
    )


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
        Unavailable: If the database cannot be reached, is locked, full or read-only.
    """
    try:
        yield
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
