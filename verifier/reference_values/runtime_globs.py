"""Paths to leave out, as patterns that match whole paths and nothing more.

``*`` and ``?`` stay within one directory level; ``**`` may only be the last part and means
everything below. There are no other signs. A pattern begins at the root with a part that is
spelt out, so none matches everything. Matching takes time linear in the path: every star but the
last of a part is possessive, and no star crosses a slash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_PATTERNS: Final = 1000
"""Patterns in one policy."""

MAX_PATTERN_CHARS: Final = 256
"""Characters in one pattern."""

MAX_STARS: Final = 8
"""Stars in one pattern."""

_EVERYTHING_BELOW: Final = "**"


class PathPatterns:
    """Patterns, found by the first part of a path.

    Args:
        patterns: As written.

    Raises:
        ValueError: If one cannot be taken; the message begins with the pattern.
    """

    __slots__ = ("_by_first", "texts")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.texts = tuple(dict.fromkeys(patterns))
        if len(self.texts) > MAX_PATTERNS:
            raise ValueError(f"{len(self.texts)} patterns, at most {MAX_PATTERNS} are taken")
        self._by_first: dict[bytes, list[re.Pattern[bytes]]] = {}
        for text in self.texts:
            first = text.split("/", 2)[1] if text.count("/") else ""
            self._by_first.setdefault(first.encode(), []).append(_compiled(text))

    def __bool__(self) -> bool:
        return bool(self.texts)

    def matches(self, path: bytes) -> bool:
        """Whether a pattern matches the whole path; never one that steps back with ``..``."""
        if b"/../" in path or path.endswith(b"/.."):
            return False
        first = path.split(b"/", 2)[1] if path[:1] == b"/" else b""
        return any(one.fullmatch(path) for one in self._by_first.get(first, ()))


def _compiled(text: str) -> re.Pattern[bytes]:
    shown = repr(text[:80])
    if not text.isprintable() or len(text) > MAX_PATTERN_CHARS:
        raise ValueError(f"{shown}: wanted at most {MAX_PATTERN_CHARS} printable characters")
    parts = text.split("/")
    if parts[0] or len(parts) < 3:  # noqa: PLR2004 - root, a directory, what is in it
        raise ValueError(f"{shown}: wanted a path from the root with at least two parts, /var/**")
    if "*" in parts[1] or "?" in parts[1]:
        raise ValueError(f"{shown}: its first part must be spelt out; it would match everything")
    if any(part in ("", ".", "..") for part in parts[1:]):
        raise ValueError(f"{shown}: no part may be empty, '.' or '..'")
    if any(_EVERYTHING_BELOW in part for part in parts[:-1]) or (
        _EVERYTHING_BELOW in parts[-1] and parts[-1] != _EVERYTHING_BELOW
    ):
        raise ValueError(f"{shown}: '**' may only be the whole last part")
    if text.count("*") > MAX_STARS:
        raise ValueError(f"{shown}: wanted at most {MAX_STARS} stars")
    return re.compile(b"".join(_part(part) for part in parts[1:]), re.DOTALL)


def _part(part: str) -> bytes:
    if part == _EVERYTHING_BELOW:
        return rb"/.+"
    *pieces, last = [_literal(piece) for piece in part.split("*")]
    if not pieces:
        return b"/" + last
    between = b"".join(b"(?>[^/]*?" + piece + b")" for piece in pieces[1:] if piece)
    return b"/" + pieces[0] + between + b"[^/]*" + last


def _literal(piece: str) -> bytes:
    return b"".join(b"[^/]" if char == "?" else re.escape(char.encode()) for char in piece)
