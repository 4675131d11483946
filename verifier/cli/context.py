"""What every command starts from: the configuration, and the store when it is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.refusals import RefusalCode
from verifier.errors import SettingsInvalid, Unavailable
from verifier.settings import DEFAULT_FILE, Settings, load_settings

# The wiring behind a command (store, HTTP, policy engine) is imported inside it: the other commands
# must not pay for it.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from verifier.store.sql_store import SqlStore

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""``--json`` on every command that prints."""

_CONFIG_VARIABLE = "VERIFIER_CONFIG"


class ConfigChoice:
    """The configuration file of this run; set once by the command line's root."""

    path: Path | None = None


def settings() -> Settings:
    """Load the configuration: ``--config``, else ``VERIFIER_CONFIG``, else the default file.

    Raises:
        SettingsInvalid: If a file that was named is absent, or anything in it is wrong.
    """
    named = ConfigChoice.path or (
        Path(os.environ[_CONFIG_VARIABLE]) if os.environ.get(_CONFIG_VARIABLE) else None
    )
    path = named or DEFAULT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        if named is not None or path.exists():
            raise SettingsInvalid(f"{path}: {error.strerror}") from error
        text = ""
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{path} is not UTF-8 text") from error
    return load_settings(text, str(path), os.environ)


def store(chosen: Settings) -> SqlStore:
    """Open the store; its tables must be of this program's shape.

    Raises:
        Unavailable: If they are not, or the store cannot be reached.
    """
    from verifier.store.migrate import schema_state
    from verifier.store.sql_store import open_store

    try:
        state = schema_state(chosen.store.url)
    except Unavailable as error:
        where = chosen.store.url if chosen.store.url.startswith("sqlite:") else "store.url"
        raise Unavailable(
            error.code, f"{error.reason} ({where}); run: verifier init, or name a file by --config"
        ) from error
    if not state.up_to_date:
        raise Unavailable(
            RefusalCode.STORE_UNAVAILABLE,
            f"the tables are {state.current or 'absent'}, wanted {state.newest}; "
            "run: verifier init",
        )
    return open_store(chosen.store.url, with_outbox=bool(chosen.mqtt.host))
