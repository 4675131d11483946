"""When to try again: exponential back-off with full jitter, as a pure schedule.

Full jitter spreads a fleet that lost its verifier evenly over the whole window, so that the
verifier is not struck down again by its own devices the moment it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MOST_DOUBLINGS: Final = 32
"""Beyond this every sensible cap is reached; keeps the power small."""

LEAST_DELAY_S: Final = 0.05
"""Even the luckiest jitter waits this long, so that no fault becomes a busy loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The schedule of one kind of retry.

    Attributes:
        base_s: The window of the first retry, seconds.
        cap_s: The widest window, seconds.
    """

    base_s: float
    cap_s: float

    def window_s(self, attempt: int) -> float:
        """Return the window of the given attempt (0 is the first retry), seconds."""
        return min(self.cap_s, self.base_s * float(2 ** min(max(attempt, 0), _MOST_DOUBLINGS)))

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Return how long to wait.

        Args:
            attempt: Failures in a row before this one; 0 for the first.
            jitter: A random number in 0..1, drawn by the caller.

        Returns:
            Seconds, uniformly spread over the attempt's window by ``jitter``.
        """
        return max(LEAST_DELAY_S, min(max(jitter, 0.0), 1.0) * self.window_s(attempt))
