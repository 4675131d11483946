"""Moments on the command line: ``2026-06-01``, ``2026-06-01T12:00:00Z``, ``7d``, ``12h``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused

EndsAt = Annotated[
    str, typer.Option("--at", help="When: 2026-06-01, 2026-06-01T12:00:00Z, or 90d from now.")
]
Never = Annotated[bool, typer.Option("--never", help="It does not end by a date.")]

_SPAN: Final = re.compile(r"([0-9]{1,6})([dhm])")
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}


def parse_moment(text: str, at: datetime) -> datetime:
    """Read a moment: a date (its first second, UTC), a time with its zone, or a span from now.

    Args:
        text: As typed.
        at: Now (aware).

    Raises:
        RequestRefused: If it is none of these, or does not lie in the future.
    """
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            found = at + timedelta(**{_UNITS[span[2]]: int(span[1])})
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise _refused(text, "is no moment") from error
    if found.tzinfo is None:
        if len(text) > len("2026-06-01"):
            raise _refused(text, "has no zone")
        found = found.replace(tzinfo=UTC)
    if found <= at:
        raise _refused(text, "is past")
    return found


def planned_moment(text: str, at: datetime, *, never: bool) -> datetime | None:
    """Read ``--at DATE`` or ``--never``, of which exactly one is given.

    Returns:
        The moment; None for never.

    Raises:
        RequestRefused: If neither or both are given, or the moment cannot be read or is past.
    """
    if never == bool(text):
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "say either --at DATE or --never")
    return None if never else parse_moment(text, at)


def _refused(text: str, why: str) -> RequestRefused:
    return RequestRefused(
        RefusalCode.REQUEST_INVALID,
        f"{text!r} {why}; write 2026-06-01, 2026-06-01T12:00:00Z, 7d, 12h or 30m, to come",
    )
