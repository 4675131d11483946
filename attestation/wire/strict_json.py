"""JSON that has one reading only: UTF-8, no key twice, no NaN, bounded by its caller.

Half a surrogate pair, which an escape can write and no UTF-8 can hold, is refused too (RFC 7493
section 2.1): what was read must be fit to be told.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(document: bytes) -> Any:  # noqa: ANN401 - what JSON holds
    """Parse one document.

    Raises:
        ValueError: If it is not UTF-8 or not JSON, nests too deep, an object names a key twice, or
            a text holds half a surrogate pair.
    """
    try:
        value = json.loads(document.decode(), object_pairs_hook=_unique, parse_constant=_constant)
        if _SURROGATE.search(document):
            _require_whole_characters(value)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    return value


def _require_whole_characters(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text holds half a surrogate pair, which is no character") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("an object names one key twice")
    return table


def _constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
