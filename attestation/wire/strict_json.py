"""JSON that has one reading only: UTF-8, no key twice, no NaN, bounded by its caller."""

from __future__ import annotations

import json
from typing import Any


def parse_json(document: bytes) -> Any:  # noqa: ANN401 - what JSON holds
    """Parse one document.

    Raises:
        ValueError: If it is not UTF-8 or not JSON, nests too deep, or an object names a key twice.
    """
    try:
        return json.loads(document.decode(), object_pairs_hook=_unique, parse_constant=_constant)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("an object names one key twice")
    return table


def _constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
