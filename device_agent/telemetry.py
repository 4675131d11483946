"""The daemon's own log: event names, and lines as JSON or for a terminal.

Event names are ``noun_verb``. No line ever holds a nonce, a key or a secret. The lines have the
shape of the verifier's (structlog); a logging library would cost this process seven megabytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol, TextIO

DAEMON_STARTED: Final = "daemon_started"
DAEMON_STOPPED: Final = "daemon_stopped"
DEVICE_ENROLLED: Final = "device_enrolled"
KEY_RETIRED: Final = "key_retired"
AGENT_RENEWED: Final = "agent_renewed"
AGENT_TROUBLED: Final = "agent_troubled"
EVIDENCE_JUDGED: Final = "evidence_judged"
FAULT_OCCURRED: Final = "fault_occurred"
WAIT_BEGUN: Final = "wait_begun"
STATE_UNWRITABLE: Final = "state_unwritable"
STATE_WRITABLE: Final = "state_writable"
STATE_SET_ASIDE: Final = "state_set_aside"
BROKER_CONNECTED: Final = "broker_connected"
BROKER_LOST: Final = "broker_lost"
BROKER_REFUSED: Final = "broker_refused"
AGENT_UNMEASURED: Final = "agent_unmeasured"

_LEVELS: Final = ("debug", "info", "warning", "error")


class Log(Protocol):
    """What we use of a structlog logger."""

    def debug(self, event: str, **fields: object) -> object:
        """Write what only a developer wants."""
        ...

    def info(self, event: str, **fields: object) -> object:
        """Write what an operator may want."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Write what an operator should look at."""
        ...


class LineLog:
    """Implements :class:`Log`: one line per event on a stream.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``: the least that is written.
        console: For people; JSON otherwise.
        now: The wall clock.
        stream: Where to write; safe to share between threads (one write per line).
    """

    def __init__(
        self, level: str, *, console: bool, now: Callable[[], datetime], stream: TextIO
    ) -> None:
        self._least = _LEVELS.index(level)
        self._console = console
        self._now = now
        self._stream = stream

    def debug(self, event: str, **fields: object) -> None:
        """Write what only a developer wants."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Write what an operator may want."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write what an operator should look at."""
        self._write("warning", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        if _LEVELS.index(level) < self._least:
            return
        at = self._now().isoformat(timespec="milliseconds")
        if self._console:
            words = " ".join(f"{key}={_shown(value)}" for key, value in fields.items())
            line = f"{at} {level:<7} {event} {words}".rstrip()
        else:
            document = {**fields, "event": event, "level": level, "timestamp": at}
            line = json.dumps(document, default=str)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # A log that cannot be written must not stop the daemon.
            return


def _shown(value: object) -> str:
    text = "; ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return text if text and " " not in text else json.dumps(text, ensure_ascii=False)


def open_log(
    level: str, form: str, now: Callable[[], datetime], stream: TextIO | None = None
) -> Log:
    """Return the daemon's log.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json``, ``console``, or ``auto``: console on a terminal, JSON elsewhere.
        now: The wall clock.
        stream: Where to write; standard error by default.
    """
    chosen = sys.stderr if stream is None else stream
    console = form == "console" or (form == "auto" and chosen.isatty())
    return LineLog(level, console=console, now=now, stream=chosen)


def agent_report(log: Log) -> Callable[[str], None]:
    """Return what writes trouble with measuring the AI agent, in words, as a warning."""

    def report(reason: str) -> None:
        log.warning(AGENT_UNMEASURED, reason=reason)

    return report
