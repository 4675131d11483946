"""The clocks and the dice of this machine: the only place that reads them.

Only the wiring and the commands import it; everything else is given a moment.
"""

from __future__ import annotations

import random
import secrets
import time
from datetime import UTC, datetime


def wall_clock() -> datetime:
    """Return the moment (UTC)."""
    return datetime.now(UTC)


def elapsed_s() -> float:
    """Return seconds on the clock that never goes back and counts sleep (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def jitter() -> float:
    """Return a random number in 0..1."""
    return random.SystemRandom().random()


def entropy() -> bytes:
    """Return 16 random bytes."""
    return secrets.token_bytes(16)
