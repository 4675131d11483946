"""Where each key of a TOML text stands: ``tomllib`` says what a text means, this says on what line.

A scanner of the text's shape only (TOML 1.0: tables, arrays of tables, dotted keys, inline tables,
arrays, the four kinds of strings). It is used on texts that ``tomllib`` has accepted, to name a
line in a complaint; it judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_BLANK: Final = " \t"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_QUOTES: Final = ('"""', "'''", '"', "'")
_SEPARATORS: Final = frozenset(",]}\n#")


class KeyLines:
    """The line, from 1, of every key of a TOML text.

    Paths are written as complaints write them: ``boot.dbx.entries``, ``pcrs[2].known``; elements of
    arrays and arrays of tables count from 1.

    Args:
        text: TOML that ``tomllib`` accepts; of any other text some lines are not found.
    """

    __slots__ = ("_lines",)

    def __init__(self, text: str) -> None:
        self._lines: Mapping[str, int] = _Scanner(text).scan()

    def find(self, path: str) -> int | None:
        """Return the line of a key, or of the nearest table around it; None if there is neither."""
        while path:
            line = self._lines.get(path)
            if line is not None:
                return line
            shorter = path.rpartition("[")[0] if path.endswith("]") else ""
            path = shorter or path.rpartition(".")[0]
        return None


class _Scanner:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def scan(self) -> dict[str, int]:
        prefix = ""
        self._skip(newlines=True)
        while self._at < len(self._text):
            before = self._at
            if self._text.startswith("[", self._at):
                prefix = self._header()
            else:
                self._pair(prefix)
            if self._at == before:  # Not TOML; go on after this character.
                self._at += 1
            self._skip(newlines=True)
        return self._lines

    def _header(self) -> str:
        """Read ``[table]`` or ``[[table]]`` and return its path, with numbers for lists."""
        start = self._at
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        path = ""
        keys = self._key()
        for place, key in enumerate(keys):
            path = _under(path, key)
            last = place == len(keys) - 1
            if last and many:
                self._note(path, start)
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = f"{path}[{self._counts[path]}]"
        self._note(path, start)
        while self._text.startswith("]", self._at):
            self._at += 1
        return path

    def _pair(self, prefix: str) -> None:
        """Read ``key = value``."""
        start = self._at
        path = prefix
        for key in self._key():
            path = _under(path, key)
            self._note(path, start)
        self._skip()
        if self._text.startswith("=", self._at):
            self._at += 1
            self._value(path)

    def _key(self) -> list[str]:
        """Read a key with its dots."""
        keys = []
        while True:
            self._skip()
            if self._text.startswith(('"', "'"), self._at):
                keys.append(self._string()[1:-1])
            else:
                match = _KEY.match(self._text, self._at)
                if match is None:
                    return keys
                keys.append(match[0])
                self._at = match.end()
            self._skip()
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self, path: str) -> None:
        self._skip(newlines=True)
        if self._text.startswith(("[", "{"), self._at):
            self._inside(path, array=self._text[self._at] == "[")
        elif self._text.startswith(_QUOTES, self._at):
            self._string()
        else:
            while self._at < len(self._text) and self._text[self._at] not in _SEPARATORS:
                self._at += 1

    def _inside(self, path: str, *, array: bool) -> None:
        """Read what stands between the brackets of an array or an inline table."""
        self._at += 1
        number = 0
        while self._at < len(self._text):
            self._skip(newlines=True)
            before = self._at
            if self._text.startswith(("]", "}"), self._at):
                self._at += 1
                return
            if array:
                number += 1
                self._note(f"{path}[{number}]", self._at)
                self._value(f"{path}[{number}]")
            else:
                self._pair(path)
            self._skip(newlines=True)
            if self._text.startswith(",", self._at) or self._at == before:
                self._at += 1

    def _string(self) -> str:
        """Read a string of any kind and return it with its quotes."""
        start = self._at
        mark = next(mark for mark in _QUOTES if self._text.startswith(mark, self._at))
        self._at += len(mark)
        while self._at < len(self._text):
            if self._text[self._at] == "\\" and mark[0] == '"':
                self._at += 2
            elif self._text.startswith(mark, self._at):
                self._at += len(mark)
                while len(mark) > 1 and self._text.startswith(mark[0], self._at):
                    self._at += 1  # Up to two quotes may stand before the closing three.
                break
            else:
                self._at += 1
        return self._text[start : self._at]

    def _skip(self, *, newlines: bool = False) -> None:
        """Pass over blanks, and over line ends and comments if those mean nothing here."""
        while self._at < len(self._text):
            one = self._text[self._at]
            if one in _BLANK or (newlines and one in "\r\n"):
                self._at += 1
            elif newlines and one == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            else:
                return

    def _note(self, path: str, place: int) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, place) + 1)


def _under(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
