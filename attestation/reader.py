"""Reader: an exact, bounded, offset-aware cursor over bytes, and its counterpart for writing.

The only place in the project that slices or unpacks hostile bytes. Every read is checked against
what remains before anything is allocated; ``end()`` refuses trailing bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

from attestation.errors import LimitExceeded, MalformedInput
from attestation.refusals import RefusalCode

__all__ = ["LE_U32", "Reader", "Struct", "pack"]

_U8: Final = Struct(">B")
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_U64: Final = Struct(">Q")
LE_U32: Final = Struct("<I")


def pack(layout: str, *values: int | bytes) -> bytes:
    """Pack values by a :mod:`struct` layout; the writing side of :class:`Reader`.

    Args:
        layout: A struct format with an explicit byte order (``>`` or ``<``).
        values: Numbers or byte strings in layout order.

    Returns:
        The packed bytes.
    """
    return struct.pack(layout, *values)


class Reader:
    """A cursor over one byte string that never reads past its end.

    Big-endian (TPM) by default; use :meth:`unpack` with a ``<`` layout for UEFI structures.

    Args:
        data: The bytes to read; kept, not copied.
        structure: The structure's name, used in errors.
        limit: The most bytes accepted, checked before anything is read; None where the caller has
            bounded them.

    Raises:
        LimitExceeded: If there are more (``too-large``).
    """

    __slots__ = ("_data", "_end", "offset", "structure")

    def __init__(self, data: bytes, structure: str, *, limit: int | None = None) -> None:
        if limit is not None and len(data) > limit:
            raise LimitExceeded(
                RefusalCode.TOO_LARGE,
                f"{len(data)} bytes, at most {limit} are accepted",
                structure=structure,
            )
        self._data = data
        self._end = len(data)
        self.offset = 0
        self.structure = structure

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return self._end - self.offset

    def ahead(self) -> tuple[bytes, int, int]:
        """Return the bytes, the place that is read next, and their end.

        For a loop over thousands of records, which bounds each read by that end itself and moves
        :attr:`offset` behind what it took.
        """
        return self._data, self.offset, self._end

    def take(self, count: int, field: str = "bytes") -> bytes:
        """Read exactly ``count`` bytes.

        Raises:
            MalformedInput: If fewer remain (``truncated``).
        """
        start = self.offset
        stop = start + count
        if count < 0 or stop > self._end:
            raise self._truncated(count, field)
        self.offset = stop
        return self._data[start:stop]

    def unpack(self, layout: Struct, field: str = "fields") -> tuple[Any, ...]:
        """Read one precompiled layout.

        Raises:
            MalformedInput: If fewer bytes remain than the layout needs (``truncated``).
        """
        start = self.offset
        stop = start + layout.size
        if stop > self._end:
            raise self._truncated(layout.size, field)
        self.offset = stop
        return layout.unpack_from(self._data, start)

    def records(
        self, layout: Struct, *, whole: bool = False
    ) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        """Read records whose last fixed field is the size of the content that follows, as they fit.

        Stops before the first record that does not fit, or at the end, and never fails:
        :attr:`offset` stands behind the last record that was yielded, so that whoever reads on
        there field by field can tell what is wrong. The reader must not be moved in between.

        Args:
            layout: The fixed fields, their last an unsigned number.
            whole: The size counts the fixed fields too.

        Yields:
            The fixed fields and the content.
        """
        data, end, head, read = self._data, self._end, layout.size, layout.unpack_from
        begin = self.offset + head
        counted = head if whole else 0
        while begin <= end:
            fields = read(data, begin - head)
            stop = begin + fields[-1] - counted
            if not begin <= stop <= end:
                return
            self.offset = stop
            yield fields, data[begin:stop]
            begin = stop + head

    def u8(self, field: str = "u8") -> int:
        """Read one byte as a number. Raises MalformedInput when truncated."""
        value: int = self.unpack(_U8, field)[0]
        return value

    def u16(self, field: str = "u16") -> int:
        """Read a big-endian 16-bit number. Raises MalformedInput when truncated."""
        value: int = self.unpack(_U16, field)[0]
        return value

    def u32(self, field: str = "u32") -> int:
        """Read a big-endian 32-bit number. Raises MalformedInput when truncated."""
        value: int = self.unpack(_U32, field)[0]
        return value

    def u64(self, field: str = "u64") -> int:
        """Read a big-endian 64-bit number. Raises MalformedInput when truncated."""
        value: int = self.unpack(_U64, field)[0]
        return value

    def sized(self, field: str = "buffer", *, limit: int = 0xFFFF) -> bytes:
        """Read a TPM2B: a 16-bit length, then that many bytes (TPM 2.0 Part 2, 10.4).

        Raises:
            MalformedInput: If fewer bytes remain than announced.
            LimitExceeded: If the announced length is above ``limit``.
        """
        size = self.u16(field)
        if size > limit:
            raise LimitExceeded(
                RefusalCode.TOO_LARGE,
                f"{field} announces {size} bytes, at most {limit} are accepted",
                structure=self.structure,
                offset=self.offset,
            )
        return self.take(size, field)

    def rest(self) -> bytes:
        """Read everything that is left."""
        return self.take(self.remaining)

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            MalformedInput: If bytes remain (``trailing-bytes``).
        """
        if self.offset != self._end:
            raise MalformedInput(
                RefusalCode.TRAILING_BYTES,
                f"{self.remaining} bytes follow the end of the structure",
                structure=self.structure,
                offset=self.offset,
            )

    def wrong(self, field: str, seen: object, wanted: str) -> MalformedInput:
        """Make (not raise) the error for a field whose value is not allowed."""
        return MalformedInput(
            RefusalCode.VALUE_OUT_OF_RANGE,
            f"{field} is {seen}, wanted {wanted}",
            structure=self.structure,
            offset=self.offset,
        )

    def _truncated(self, wanted: int, field: str) -> MalformedInput:
        return MalformedInput(
            RefusalCode.TRUNCATED,
            f"{field} needs {wanted} bytes, {self.remaining} remain",
            structure=self.structure,
            offset=self.offset,
        )
