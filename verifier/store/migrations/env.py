"""alembic's environment: one online run on the engine that ``verifier.store.migrate`` hands in.

PostgreSQL replicas that start together are kept apart by an advisory lock; SQLite's migration runs
under an IMMEDIATE transaction.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Engine, text

from verifier.store.tables import metadata

MIGRATION_LOCK = 0x61747465
"""Number of the advisory lock ("atte")."""


def run(engine: Engine) -> None:
    """Run the migrations that are missing, all in one transaction."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": MIGRATION_LOCK})
        context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        context.run_migrations()
        connection.exec_driver_sql("COMMIT")


run(context.config.attributes["engine"])
