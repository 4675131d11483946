"""Acts on the authority into the issuance log: kind ``authority``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from verifier.cli import context
from verifier.keys.register import CaState, RegisterEntry, load_register
from verifier.settings import Settings

AUTHORITY: Final = "authority"
"""The kind of these entries."""


def require_log(settings: Settings) -> None:
    """See that the log can be written, before anything is done that belongs into it.

    Raises:
        Unavailable: If the store cannot be reached, or its tables are not of this program.
    """
    context.store(settings).close()


def record(settings: Settings, act: str, told: Mapping[str, object], at: datetime) -> None:
    """Append an act to the issuance log.

    Args:
        settings: Name the store.
        act: ``founded``, ``rotated``, ``requested``, ``imported``, ``trusted``, ``distrusted``,
            ``removed``, ``encrypted``, ``backed-up``, ``restored``.
        told: What it was done to. No secret.
        at: Now.

    Raises:
        Unavailable: If the store cannot be reached.
    """
    store = context.store(settings)
    try:
        with store.work() as work:
            work.append_log(AUTHORITY, {"act": act, **told}, at)
    finally:
        store.close()


def described(entry: RegisterEntry) -> dict[str, object]:
    """Return what the log tells of an issuing CA."""
    return {
        "ca": entry.id,
        "state": entry.state.value,
        "key": {"kind": entry.key.kind.value, "name": entry.key.name},
    }


def current_entry(settings: Settings) -> dict[str, object]:
    """Return what the log tells of the CA that issues now; empty if there is none."""
    register = load_register(Path(settings.keys.directory))
    for entry in register.in_state(CaState.CURRENT):
        return described(entry)
    return {}
