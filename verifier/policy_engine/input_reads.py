"""What a policy can read of its input: the rest need not be sent, nor can it change the answer.

A Rego module reaches the document only by the word ``input``. So every place where that word
stands, in comments and texts too, is looked at: ``input.a.b`` reads what is there, and whatever
else it stands in (``input`` alone, ``input[…]``, ``with input as``) reads all. Too much may be
found so, never too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from verifier.decision.engine import JsonObject, JsonValue

Path = tuple[str, ...]
"""Keys from the top of the document downwards; empty for all of it."""

_INPUT: Final = re.compile(r"\binput\b((?:\.[A-Za-z_][A-Za-z0-9_]*)*)")
_UNREPEATABLE: Final = re.compile(
    r"\b(?:time|rand|uuid|http|net|opa|io|crypto|providers|trace|print)\b"
)
"""Spaces of built-in functions among which are such as answer otherwise each time: by the clock,
by chance, by a network, by certificates' ends, or that leave something behind."""


class InputReads:
    """What one policy can read.

    Args:
        policy: The Rego module's text.

    Attributes:
        paths: What is read; one empty path for everything. No path begins with another.
        repeatable: Whether the policy says the same whenever what it reads is the same.
    """

    def __init__(self, policy: str) -> None:
        found = {tuple(match[1].split(".")[1:]) for match in _INPUT.finditer(policy)}
        self.paths = frozenset(one for one in found if not _is_within(one, found))
        self.repeatable = _UNREPEATABLE.search(policy) is None

    def of(self, document: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """Return what the policy can read of a document."""
        if () in self.paths:
            return document
        seen: JsonObject = {}
        for path in self.paths:
            _copy(document, path, seen)
        return seen


def _is_within(path: Path, paths: Iterable[Path]) -> bool:
    """Say whether another of these paths is a beginning of this one."""
    return any(path[: len(other)] == other and path != other for other in paths)


def _copy(source: Mapping[str, JsonValue], path: Path, target: JsonObject) -> None:
    """Copy what is at a path; an object on the way stays one, even if the last key is missing."""
    key, below = path[0], path[1:]
    if key not in source:
        return
    value = source[key]
    if not below or not isinstance(value, dict):
        target[key] = value
        return
    inner = target.setdefault(key, {})
    if isinstance(inner, dict):
        _copy(value, below, inner)
