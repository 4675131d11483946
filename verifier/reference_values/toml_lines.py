"""On which line of a TOML text a key stands: the standard reader does not say."""

from __future__ import annotations

import re
from typing import Final

_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\]]*?)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


def line_of(text: str, table: str, key: str, part: str = "") -> int:
    """Return the line number, from 1, of a key; as near as can be told.

    Args:
        text: The TOML text, which was read without an error.
        table: The dotted name of the key's table; empty for the top.
        key: The key; empty for the table's own header.
        part: A text that stands on the wanted line, at the key or below it.

    Returns:
        The line of ``part``, of the key, or of the table; 1 if none of them is found.
    """
    here, found, at_key = "", 1, False
    for number, line in enumerate(text.splitlines(), start=1):
        header, named = _HEADER.match(line), _KEY.match(line)
        if header is not None and not at_key:
            here = _bare(header.group(1))
            if here == table:
                found = number
                if not key:
                    break
        elif named is not None and here == table and _bare(named.group(1)) == key:
            found, at_key = number, True
        if at_key and part in line:
            return number
    return found


def _bare(key: str) -> str:
    return re.sub(r"[\s\"']", "", key)
