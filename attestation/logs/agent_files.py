"""What an agent's log says in the end: the files that are there now, and what they were before.

Pure bookkeeping over :mod:`attestation.logs.cel`; the device agent keeps it to know what has
changed, the verifier to know what to judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from attestation.logs.cel import Measurement, RecordKind

MOST_PAST: Final = 16
"""Earlier contents remembered of one path, the oldest; the first stray one tells enough."""


@dataclass(slots=True)
class AgentFiles:
    """The agent's files as its records tell them, in order.

    Attributes:
        aibom: The AIBOM that holds now; None before the first record of one.
        aiboms: SHA-256 of every AIBOM measured in this boot, in order; values say nothing.
        present: What is there now, by path.
        past: What was measured at a path before, oldest first, when it was something else.
        excluded: Patterns that were not measured at some time in this boot, in order; values say
            nothing.
        full: Whether the log reached its cap, so that the present is not known.
    """

    aibom: Measurement | None = None
    aiboms: dict[bytes, None] = field(default_factory=dict)
    present: dict[str, Measurement] = field(default_factory=dict)
    past: dict[str, tuple[Measurement, ...]] = field(default_factory=dict)
    excluded: dict[str, None] = field(default_factory=dict)
    full: bool = False

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> AgentFiles:
        """Return what these records say, first to last."""
        files = cls()
        for measured in measurements:
            files.apply(measured)
        return files

    def apply(self, measured: Measurement) -> None:
        """Take the next record."""
        if measured.kind is RecordKind.AIBOM:
            self.aibom = measured
            self.aiboms.setdefault(measured.digest)
        elif measured.kind is RecordKind.EXCLUDED:
            self.excluded.setdefault(measured.path)
        elif measured.kind is RecordKind.FULL:
            self.full = True
        else:
            self._file(measured)

    def _file(self, measured: Measurement) -> None:
        before = self.present.pop(measured.path, None)
        if before is not None and before != measured:
            past = self.past.get(measured.path, ())
            if before not in past and len(past) < MOST_PAST:
                self.past[measured.path] = (*past, before)
        if measured.kind is not RecordKind.REMOVED:
            self.present[measured.path] = measured
