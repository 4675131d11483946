"""Many rows of one table by one statement in the driver's own words.

SQLAlchemy prepares each row of a batch anew, a server runs an INSERT for each, and at each row that
SQLite writes, Python's other threads take their turn while the database is locked. Here SQLite gets
all rows in one VALUES, and PostgreSQL each column as an array (``unnest``), so that a row costs
little more than its bytes. The words come from the tables; values only ever go as parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, Dialect, Table

from verifier.store.rows import Columns

MAX_PARAMETERS: Final = 32_766
"""Of one SQLite statement (SQLITE_MAX_VARIABLE_NUMBER)."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[Columns]) -> None:
    """Insert rows that all name the same columns; nothing for none.

    Args:
        connection: Inside a transaction.
        table: Where.
        rows: Column names and values as the driver takes them.

    Raises:
        sqlalchemy.exc.IntegrityError: As a single INSERT would.
    """
    if not rows:
        return
    names = tuple(rows[0])
    if connection.dialect.name == "sqlite":
        most = MAX_PARAMETERS // len(names)
        for part in (rows[start : start + most] for start in range(0, len(rows), most)):
            values = tuple(row[name] for row in part for name in names)
            connection.exec_driver_sql(_values(table, names, len(part)), values)
        return
    columns = tuple([row[name] for row in rows] for name in names)
    connection.exec_driver_sql(_arrays(connection.dialect, table, names), columns)


def _into(table: Table, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)})"


@lru_cache(maxsize=1024)
def _values(table: Table, names: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' for _ in names)})"
    return f"{_into(table, names)} VALUES {', '.join([row] * count)}"


@lru_cache(maxsize=64)
def _arrays(dialect: Dialect, table: Table, names: tuple[str, ...]) -> str:
    types = [_element_type(dialect, table, name) for name in names]
    arrays = ", ".join(f"%b::{one}[]" for one in types)
    return f"{_into(table, names)} SELECT * FROM unnest({arrays})"  # noqa: S608 - our own names


def _element_type(dialect: Dialect, table: Table, name: str) -> str:
    """Return a column's type as an array's element; lengths are the table's to check."""
    return table.c[name].type.compile(dialect=dialect).partition("(")[0]
