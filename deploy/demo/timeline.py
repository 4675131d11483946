"""What the demo has seen, when: shown live for people, written as JSON for programs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

_COLOURS = {
    "affirming": "green",
    "allow": "green",
    "warning": "yellow",
    "contraindicated": "red",
    "deny": "red",
    "none": "dim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing seen.

    Attributes:
        t_ms: Milliseconds since the story began.
        device: Which device, or ``-`` for the house.
        step: What happened: ``manufactured``, ``enrolled``, ``first-evidence``, ….
        status: Attestation status after it; empty if none is known.
        decision: ``allow``, ``deny`` or empty.
        detail: In words.
    """

    t_ms: int
    device: str
    step: str
    status: str
    decision: str
    detail: str


class Timeline:
    """Records entries in the order seen and prints each as it comes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self.entries: list[Entry] = []

    def elapsed_ms(self) -> int:
        """Milliseconds since the story began."""
        return int((time.monotonic() - self._began) * 1000)

    def seen(
        self, device: str, step: str, detail: str, *, status: str = "", decision: str = ""
    ) -> None:
        """Record one thing that was really seen, and show it."""
        entry = Entry(
            t_ms=self.elapsed_ms(),
            device=device,
            step=step,
            status=status,
            decision=decision,
            detail=detail,
        )
        self.entries.append(entry)
        words = " ".join(
            f"[{_COLOURS.get(word, 'default')}]{word}[/]" for word in (status, decision) if word
        )
        self._console.print(
            f"[dim]{entry.t_ms / 1000:7.2f} s[/]  [bold]{device:<7}[/] {step:<15} "
            f"{words}{' ' if words else ''}{escape(detail)}",
            highlight=False,
            soft_wrap=True,
        )

    def begins(self, what: str) -> None:
        """Say what is being done now, since it takes more than a moment; nothing is recorded."""
        self._console.print(
            f"[dim]{self.elapsed_ms() / 1000:7.2f} s  {escape(what)} …[/]", highlight=False
        )

    def write_json(self, path: Path) -> None:
        """Write the entries as a JSON list (design of ``DEMO_JSON``)."""
        path.write_text(json.dumps([asdict(entry) for entry in self.entries], indent=1) + "\n")
