"""The shape of a CBOR encoding: everything of it but what its byte strings hold.

A sender's messages differ from one another in what their byte strings hold and in nothing else.
The bytes of a byte string mean nothing to the encoding around them (RFC 8949 section 3.1, major
type 2): two encodings that agree in every other byte are decoded alike, but for those contents.
So a message of a shape that was decoded strictly before need not be decoded again; its contents
are cut out where they were found then. Of any other message nothing is said here.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from attestation.reader import Reader, Struct

_BYTE_STRING: Final = 2
_TEXT: Final = 3
_ONE_BYTE: Final = 24
_INDEFINITE: Final = 28

T = TypeVar("T")


class Shape:
    """The shape of one encoding that was decoded strictly.

    Args:
        raw: The encoding: well formed, without indefinite lengths.
    """

    __slots__ = ("_fixed", "_layout")

    def __init__(self, raw: bytes) -> None:
        sizes = _piece_sizes(raw)
        self._layout = Struct("".join(f"{size}s" for size in sizes))
        self._fixed = self._layout.unpack(raw)[::2]

    def contents(self, raw: bytes) -> tuple[bytes, ...] | None:
        """Return what the byte strings of an encoding hold, in order; None for another shape."""
        if len(raw) != self._layout.size:
            return None
        pieces = self._layout.unpack(raw)
        return pieces[1::2] if pieces[::2] == self._fixed else None


class KnownShapes(Generic[T]):
    """A bounded memory of shapes with what was found out about each, one shape for each length.

    It may serve several threads: each operation on the dictionary is atomic, and whoever finds no
    shape decodes.

    Args:
        entries: At most so many shapes.
        longest: Longer encodings are not remembered.
    """

    __slots__ = ("_entries", "_known", "_longest")

    def __init__(self, *, entries: int = 256, longest: int = 8 * 1024) -> None:
        self._entries = entries
        self._longest = longest
        self._known: dict[int, tuple[Shape, T]] = {}

    def read(self, raw: bytes) -> tuple[T, tuple[bytes, ...]] | None:
        """Return what is known of this shape, and the contents; None if nothing is."""
        known = self._known.get(len(raw))
        if known is None:
            return None
        contents = known[0].contents(raw)
        return None if contents is None else (known[1], contents)

    def learn(self, raw: bytes, meaning: T) -> None:
        """Remember an encoding that was decoded strictly, by its shape alone.

        Args:
            raw: The encoding.
            meaning: What follows from its shape, whatever its byte strings hold.
        """
        if len(raw) > self._longest:
            return
        if len(self._known) >= self._entries:
            self._known.clear()
        self._known[len(raw)] = (Shape(raw), meaning)


def _piece_sizes(raw: bytes) -> list[int]:
    """Return the sizes of what is fixed and of byte strings' contents, in turn, fixed first."""
    reader = Reader(raw, "CBOR")
    sizes: list[int] = []
    begin = 0
    while reader.remaining:
        initial = reader.u8("initial byte")
        major, argument = initial >> 5, initial & 0x1F
        if argument >= _INDEFINITE:
            raise reader.wrong("additional information", argument, "0 to 27")
        if argument >= _ONE_BYTE:
            argument = int.from_bytes(reader.take(1 << (argument - _ONE_BYTE), "argument"))
        if major == _BYTE_STRING:
            sizes += (reader.offset - begin, argument)
            begin = reader.offset + argument
        if major in (_BYTE_STRING, _TEXT):
            reader.take(argument, "string")
    return [*sizes, len(raw) - begin]
