"""Many rows of one table by one statement in the driver's own words.

SQLAlchemy prepares each row of a batch anew, and a server runs an INSERT for each; here SQLite gets
its rows as tuples, and PostgreSQL each column as an array (``unnest``), so that a row costs little
more than its bytes. The words come from the tables; values only ever go as parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Connection, Dialect, Table

from verifier.store.rows import Columns


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
    statement = _statement(connection.dialect, table, names)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement, [tuple(row[name] for name in names) for row in rows])
        return
    connection.exec_driver_sql(statement, tuple([row[name] for row in rows] for name in names))


@lru_cache(maxsize=64)
def _statement(dialect: Dialect, table: Table, names: tuple[str, ...]) -> str:
    into = f"INSERT INTO {table.name} ({', '.join(names)})"
    if dialect.name == "sqlite":
        return f"{into} VALUES ({', '.join('?' for _ in names)})"
    types = [_element_type(dialect, table, name) for name in names]
    arrays = ", ".join(f"%b::{one}[]" for one in types)
    return f"{into} SELECT * FROM unnest({arrays})"  # noqa: S608 - names of our own tables


def _element_type(dialect: Dialect, table: Table, name: str) -> str:
    """Return a column's type as an array's element; lengths are the table's to check."""
    return table.c[name].type.compile(dialect=dialect).partition("(")[0]
