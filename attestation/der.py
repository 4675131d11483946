"""DER elements: one level at a time, never past the end (ITU-T X.690, 8 and 10).

Takes single-byte tags and definite lengths in their shortest form; anything else is refused. No
recursion: whoever reads goes down level by level, so depth is the reader's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from attestation.errors import MalformedInput
from attestation.reader import Reader
from attestation.refusals import RefusalCode

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_LONG_TAG: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_MAX_LENGTH_BYTES: Final = 3
_MAX_OID_BYTES: Final = 64
_UTC_CHARS: Final = 13
_GENERALIZED_CHARS: Final = 15
_CENTURY_SPLIT: Final = 50
_FIRST_ARC_STEP: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One tag, length and value.

    Attributes:
        tag: Identifier octet.
        raw: The element as it stands, tag and length included.
        body: Its contents.
    """

    tag: int
    raw: bytes
    body: bytes


class DerReader:
    """A cursor over the elements of one level.

    Args:
        data: Contents octets of a constructed element, or a whole encoding.
        structure: Name used in errors.
    """

    __slots__ = ("_data", "_reader")

    def __init__(self, data: bytes, structure: str) -> None:
        self._data = data
        self._reader = Reader(data, structure)

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._reader.offset

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._reader.remaining > 0

    def next(self, field: str, tag: int | None = None) -> Element:
        """Read one element.

        Args:
            field: Its name, for errors.
            tag: The identifier octet wanted; None takes any.

        Raises:
            MalformedInput: If it is truncated, not DER, or has another tag.
        """
        reader = self._reader
        start = reader.offset
        seen = reader.u8(field)
        if seen & _LONG_TAG == _LONG_TAG:
            raise reader.wrong(field, "a long tag", "a single-byte tag")
        if tag is not None and seen != tag:
            raise reader.wrong(f"tag of {field}", f"0x{seen:02x}", f"0x{tag:02x}")
        body = reader.take(self._length(field), field)
        return Element(tag=seen, raw=self._data[start : reader.offset], body=body)

    def optional(self, field: str, tag: int) -> Element | None:
        """Read the next element if it has this tag, else leave it."""
        if not self.more or self._data[self._reader.offset] != tag:
            return None
        return self.next(field, tag)

    def end(self) -> None:
        """Check that nothing is left. Raises MalformedInput (``trailing-bytes``)."""
        self._reader.end()

    def _length(self, field: str) -> int:
        first = self._reader.u8(field)
        if first < _LONG_LENGTH:
            return first
        count = first - _LONG_LENGTH
        if not 1 <= count <= _MAX_LENGTH_BYTES:
            raise self._reader.wrong(f"length of {field}", f"0x{first:02x}", "a definite length")
        length = int.from_bytes(self._reader.take(count, field))
        if length < _LONG_LENGTH or length.bit_length() <= 8 * (count - 1):
            raise self._reader.wrong(f"length of {field}", length, "its shortest form")
        return length


def children(element: Element, structure: str) -> tuple[Element, ...]:
    """Return the elements inside a constructed one. Raises MalformedInput."""
    reader = DerReader(element.body, structure)
    found = []
    while reader.more:
        found.append(reader.next("element"))
    return tuple(found)


def integer(element: Element) -> int:
    """Return an INTEGER's value, which may be negative. Raises MalformedInput if it is empty."""
    if element.tag != INTEGER or not element.body:
        raise _wrong("an INTEGER is empty or of another type")
    return int.from_bytes(element.body, signed=True)


def is_minimal(element: Element) -> bool:
    """Return whether an INTEGER has no octet too many (X.690, 8.3.2)."""
    body = element.body
    return len(body) == 1 or not (
        (body[0] == 0x00 and body[1] < _LONG_LENGTH)
        or (body[0] == 0xFF and body[1] >= _LONG_LENGTH)  # noqa: PLR2004 - nine equal bits
    )


def boolean(element: Element) -> bool:
    """Return a BOOLEAN's value. Raises MalformedInput for anything but 0x00 and 0xFF."""
    if element.tag != BOOLEAN or element.body not in (b"\x00", b"\xff"):
        raise _wrong("a BOOLEAN is neither FALSE (00) nor TRUE (FF)")
    return element.body == b"\xff"


def bit_string(element: Element) -> tuple[int, bytes]:
    """Return (unused bits, octets) of a BIT STRING. Raises MalformedInput."""
    unused = element.body[0] if element.body else 8
    if element.tag != BIT_STRING or unused > 7 or (unused and len(element.body) == 1):  # noqa: PLR2004 - bits
        raise _wrong("a BIT STRING is empty, of another type, or leaves more than 7 bits unused")
    return unused, element.body[1:]


def oid(element: Element) -> str:
    """Return an OBJECT IDENTIFIER in dotted form. Raises MalformedInput."""
    body = element.body
    if element.tag != OID or not 0 < len(body) <= _MAX_OID_BYTES or body[-1] >= _LONG_LENGTH:
        raise _wrong("an OBJECT IDENTIFIER is empty, too long, cut, or of another type")
    arcs: list[int] = []
    value = 0
    fresh = True
    for octet in body:
        if fresh and octet == _LONG_LENGTH:
            raise _wrong("an OBJECT IDENTIFIER has an arc that is not in its shortest form")
        value = value << 7 | octet & 0x7F
        fresh = octet < _LONG_LENGTH
        if fresh:
            arcs.append(value)
            value = 0
    top = min(arcs[0] // _FIRST_ARC_STEP, 2)
    return ".".join(map(str, (top, arcs[0] - _FIRST_ARC_STEP * top, *arcs[1:])))


def moment(element: Element) -> datetime:
    """Return a UTCTime or GeneralizedTime as RFC 5280, 4.1.2.5 wants it: seconds, ``Z``.

    Raises:
        MalformedInput: For any other form.
    """
    text = element.body.decode("ascii", errors="replace")
    if element.tag == UTC_TIME and len(text) == _UTC_CHARS:
        text = ("20" if text[:2] < f"{_CENTURY_SPLIT}" else "19") + text
    elif element.tag != GENERALIZED_TIME or len(text) != _GENERALIZED_CHARS:
        raise _wrong("a time is neither UTCTime nor GeneralizedTime with seconds")
    if not (text.endswith("Z") and text[:-1].isascii() and text[:-1].isdigit()):
        raise _wrong("a time is not made of digits and Z")
    try:
        return datetime.strptime(text[:-1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise _wrong("a time names no moment of the calendar") from error


def write(tag: int, *contents: bytes) -> bytes:
    """Return one element: tag, length in its shortest form, the contents in a row."""
    body = b"".join(contents)
    size = len(body)
    if size < _LONG_LENGTH:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _LONG_LENGTH | len(length))) + length + body


def write_oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    body = bytearray()
    for arc in (_FIRST_ARC_STEP * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | _LONG_LENGTH)
        body += bytes(reversed(groups))
    return write(OID, bytes(body))


def write_integer(value: int) -> bytes:
    """Return an INTEGER of 0 or above."""
    return write(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def _wrong(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.VALUE_OUT_OF_RANGE, reason, structure="DER")
