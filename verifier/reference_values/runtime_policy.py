"""Runtime policies: which files a running system may run or read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuntimePolicy:
    """One runtime policy, compiled once and shared by every device that it applies to.

    Attributes:
        name: Its name, e.g. ``edge-box``.
        version: Counts up with every change.
    """

    name: str
    version: int

    @property
    def id(self) -> str:
        """Name and version: ``edge-box/3``."""
        return f"{self.name}/{self.version}"
