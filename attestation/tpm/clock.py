"""The TPM's own clock: what stops replay without a store of nonces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmClock:
    """TPMS_CLOCK_INFO of an authentic quote (TPM 2.0 Part 2, 10.11.1).

    Attributes:
        clock_ms: Milliseconds of powered time since the last TPM2_Clear.
        reset_count: TPM resets since the last TPM2_Clear.
        restart_count: TPM restarts and resumes since the last reset.
        safe: False after an unorderly shutdown until the clock is surely ahead again.
    """

    clock_ms: int
    reset_count: int
    restart_count: int
    safe: bool
