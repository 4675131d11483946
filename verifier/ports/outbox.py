"""The outbox: what is recorded and still to be told, and whom it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from verifier.ports import StoredResult


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One event that is recorded and not yet delivered.

    Attributes:
        number: Order of recording.
        result: The result to be told.
        revoked_reason: Why the device is revoked now; None if it is not.
    """

    number: int
    result: StoredResult
    revoked_reason: str | None = None


class OutboxStore(Protocol):
    """The outbox's side of the store."""

    def waiting(self, limit: int) -> Sequence[OutboxRow]:
        """Return the oldest undelivered rows in order."""
        ...

    def delivered(self, numbers: Sequence[int]) -> None:
        """Forget rows that the broker has acknowledged."""
        ...

    def waiting_count(self) -> int:
        """Count undelivered rows."""
        ...


class EventSink(Protocol):
    """Where results are told."""

    def deliver(self, rows: Sequence[OutboxRow], at: datetime) -> Sequence[int]:
        """Send rows in order; return the numbers of those acknowledged, blocking boundedly."""
        ...
