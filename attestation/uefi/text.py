"""Text inside firmware structures: UTF-16LE or ASCII, sometimes ended by NUL."""

from __future__ import annotations

from typing import Final

_LEAST_NAME: Final = 8
"""Letters that make the start of other bytes a name, not chance: ``IntelCSxEEvent01``."""


def utf16_text(content: bytes) -> str | None:
    """Return UTF-16LE text up to its first NUL, or None if the bytes are not such text.

    Trailing NULs are dropped; text after a NUL, a lone surrogate, an odd length or an unprintable
    character (but tab and line ends) makes it no text.
    """
    try:
        text = content.decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        return None
    return text if _printable(text) else None


def utf8_text(content: bytes) -> str | None:
    """Return UTF-8 text without trailing NULs, or None if the bytes are not such text."""
    try:
        text = content.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None
    return text if _printable(text) else None


def any_text(content: bytes) -> str | None:
    """Return the text of bytes that are ASCII or UTF-16LE, None if they are neither.

    UTF-16LE is told by its second byte, which is zero for the Latin letters of firmware texts.
    """
    if len(content) > 1 and content[1] == 0:
        return utf16_text(content)
    return utf8_text(content)


def shown(content: bytes, most: int = 32) -> str:
    """Return bytes for people: as text, as a name and more, else ``most`` in hexadecimal."""
    text = any_text(content)
    if text:
        return text
    name = utf8_text(content.partition(b"\0")[0])
    if name and len(name) >= _LEAST_NAME:
        return f"{name} …"
    return content[:most].hex() + ("…" if len(content) > most else "")


def _printable(text: str) -> bool:
    return text.isprintable() or all(char.isprintable() or char in "\t\r\n" for char in text)
