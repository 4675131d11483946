r"""Rows of digests and paths as text: ``sha256:3d45…  /usr/bin/env``.

One row a line; empty lines and lines that begin with ``#`` are skipped. A path's backslash, quote,
line breaks, blanks at its ends and bytes that are no printable UTF-8 stand as ``\xNN``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

SIZES: Final = {
    "sha1": 20,
    "sha224": 28,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "sm3": 32,
    "sha3-256": 32,
    "sha3-384": 48,
    "sha3-512": 64,
}
"""File digests by the kernel's names (Linux ``crypto/hash_info.c``), with their bytes."""

_VERITY: Final = "verity:"
_HEX: Final = re.compile(r"\\x([0-9a-f]{2})")
_BARE_BACKSLASH: Final = re.compile(r"\\(?!x[0-9a-f]{2})")


class Row(NamedTuple):
    """One row.

    Attributes:
        line: Its line within the text, from 0.
        digest: ``algorithm:`` NUL digest, as the kernel has it.
        rest: What stands behind the digest; may be empty.
    """

    line: int
    digest: bytes
    rest: str


class RowInvalid(ValueError):
    """A row cannot be read; ``line`` is its line within the text, from 0."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def read_rows(text: str) -> Iterator[Row]:
    """Yield the rows of a text.

    Raises:
        RowInvalid: If a row's digest is not ``algorithm:hexadecimal`` of the right length.
    """
    for number, line in enumerate(text.split("\n")):
        words = line.split(None, 1)
        if not words or words[0][0] == "#":
            continue
        yield Row(number, digest_of(words[0], number), words[1].rstrip() if len(words) > 1 else "")


def digest_of(text: str, line: int = 0) -> bytes:
    """Return ``algorithm:`` NUL digest for ``algorithm:hexadecimal``; raises RowInvalid."""
    label, colon, digits = text.rpartition(":")
    size = SIZES.get(label.removeprefix(_VERITY))
    if not colon or size is None:
        raise RowInvalid(
            line, f"{text[:40]!r} is no digest; wanted sha256:HEX, one of {', '.join(SIZES)}"
        )
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if len(value) != size or len(digits) != 2 * size:
        raise RowInvalid(line, f"a {label} digest has {2 * size} hexadecimal digits")
    return f"{label}:\0".encode() + value


def digest_text(digest: bytes) -> str:
    """Return ``algorithm:hexadecimal`` for ``algorithm:`` NUL digest."""
    label, _, value = digest.partition(b":\0")
    return f"{label.decode('ascii', 'replace')}:{value.hex()}"


def path_text(path: bytes) -> str:
    """Return a path as it stands in a row."""
    text = path.decode("utf-8", "surrogateescape")
    last = len(text) - 1
    return "".join(
        char
        if char.isprintable() and char not in "\\'" and not (char == " " and index in (0, last))
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for index, char in enumerate(text)
    )


def path_of(text: str, line: int) -> bytes:
    """Return the path that a row's text means.

    Raises:
        RowInvalid: If a backslash begins nothing.
    """
    if "\\" not in text:
        return text.encode()
    if _BARE_BACKSLASH.search(text):
        raise RowInvalid(line, "a backslash stands only before xNN; write it as \\x5c")
    parts = _HEX.split(text)
    return b"".join(
        bytes([int(part, 16)]) if number % 2 else part.encode() for number, part in enumerate(parts)
    )
