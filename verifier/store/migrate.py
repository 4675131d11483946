"""Bring the tables to the newest shape, or say which shape they have (alembic)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from verifier.store.engine import make_engine, store_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """Which shape the tables have.

    Attributes:
        current: The revision found; empty for a store without tables.
        newest: The revision this program wants.
    """

    current: str
    newest: str

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is to be done."""
        return self.current == self.newest


def _config(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["engine"] = engine
    return config


def schema_state(url: str) -> SchemaState:
    """Say which shape the tables have.

    Raises:
        Unavailable: If the store cannot be reached.
    """
    engine = make_engine(url)
    try:
        newest = ScriptDirectory.from_config(_config(engine)).get_current_head() or ""
        with store_errors(), engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        engine.dispose()
    return SchemaState(current=current, newest=newest)


def migrate(url: str) -> SchemaState:
    """Bring the tables to the newest shape; does nothing if they have it.

    Raises:
        Unavailable: If the store cannot be reached or written.
    """
    engine = make_engine(url)
    try:
        with store_errors():
            command.upgrade(_config(engine), "head")
    finally:
        engine.dispose()
    return schema_state(url)
