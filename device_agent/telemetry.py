"""The daemon's own log: event names, and the one place that configures structlog.

Event names are ``noun_verb``. No line ever holds a nonce, a key or a secret.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, Protocol, TextIO

DAEMON_STARTED: Final = "daemon_started"
DAEMON_STOPPED: Final = "daemon_stopped"
DEVICE_ENROLLED: Final = "device_enrolled"
EVIDENCE_JUDGED: Final = "evidence_judged"
FAULT_OCCURRED: Final = "fault_occurred"
WAIT_BEGUN: Final = "wait_begun"
STATE_UNWRITABLE: Final = "state_unwritable"
STATE_WRITABLE: Final = "state_writable"
STATE_SET_ASIDE: Final = "state_set_aside"
BROKER_CONNECTED: Final = "broker_connected"
BROKER_LOST: Final = "broker_lost"
BROKER_REFUSED: Final = "broker_refused"

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


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


def open_log(level: str, form: str, stream: TextIO = sys.stderr) -> Log:
    """Configure structlog and return the daemon's logger.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json``, ``console``, or ``auto``: console on a terminal, JSON elsewhere.
        stream: Where to write.
    """
    import structlog  # noqa: PLC0415 - commands that write no log need not load it

    console = form == "console" or (form == "auto" and stream.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger()
    return log
