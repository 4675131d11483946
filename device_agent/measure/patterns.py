"""Patterns for paths that are not measured: anchored at the agent's root, one line each. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_MOST_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Excludes:
    """What is left out, and what is measured all the same.

    Attributes:
        patterns: As given; ``*`` and ``?`` stay within one name, ``**`` is any number of names.
            A pattern that fits a folder fits all that is in it.
        expression: All of them in one expression; None without patterns.
    """

    patterns: tuple[str, ...]
    expression: re.Pattern[str] | None

    def covers(self, path: str) -> bool:
        """Say whether a pattern fits this path or a folder above it."""
        return self.expression is not None and self.expression.fullmatch(path) is not None


def compile_excludes(patterns: Iterable[str]) -> Excludes:
    """Compile patterns.

    Raises:
        ValueError: Naming the pattern that is empty, absolute, leads upwards or is too long.
    """
    given = tuple(patterns)
    pieces = [_piece(pattern) for pattern in given]
    expression = re.compile(f"(?:{'|'.join(pieces)})(?:/.*)?", re.DOTALL) if pieces else None
    return Excludes(given, expression)


def _piece(pattern: str) -> str:
    names = pattern.split("/")
    if len(pattern) > _MOST_CHARS or any(name in {"", ".", ".."} for name in names):
        raise ValueError(f"{pattern[:_MOST_CHARS]!r} is not a pattern relative to the agent's root")
    if all(name == "**" for name in names):
        raise ValueError(f"{pattern!r} would leave out everything")
    parts = []
    for number, name in enumerate(names, 1):
        last = number == len(names)
        if name == "**":
            parts.append(".*" if last else "(?:[^/]+/)*")
        else:
            parts.append("".join(_letter(letter) for letter in name) + ("" if last else "/"))
    return "".join(parts)


def _letter(letter: str) -> str:
    return {"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter))
