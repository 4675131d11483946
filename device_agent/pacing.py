"""How fast the daemon goes and when it renews: schedules as plain values, from the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """When a certificate is renewed and its key exchanged, from the settings.

    Attributes:
        share: Renew when so much of the certificate's life is over, 0..1.
        spread: Spread of that moment over a fleet, as a share of the life.
        rotate_after: Age at which the key itself is exchanged; None for never.
        skew: How far the verifier's clock may be from ours.
    """

    share: float = 2 / 3
    spread: float = 0.1
    rotate_after: timedelta | None = None
    skew: timedelta = timedelta(minutes=5)


class DelaySchedule(Protocol):
    """When to try again (:class:`device_agent.transport.backoff.Backoff`)."""

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Return how long to wait, seconds; ``attempt`` counts from 0, ``jitter`` is in 0..1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How fast the daemon goes, from the settings.

    Attributes:
        backoff: Schedule after faults that time mends.
        refused_s: Pause after a refusal that only a person can end.
        interval_min_s: Never attest more often.
        interval_max_s: Never wait longer for the next attestation.
        renewal: When the LDevID is renewed and its key exchanged.
    """

    backoff: DelaySchedule
    refused_s: float
    interval_min_s: float
    interval_max_s: float
    renewal: Renewal = field(default_factory=Renewal)
