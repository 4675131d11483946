"""UEFI_VARIABLE_DATA: a variable as firmware measures it (PFP 1.06, 10.2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, NamedTuple

from attestation.reader import Reader, Struct
from attestation.uefi.guid import GLOBAL_VARIABLE

_STRUCTURE: Final = "UEFI_VARIABLE_DATA"
_FIXED: Final = Struct("<16sQQ")
_FIXED_BYTES: Final = _FIXED.size
_LONGEST_KEPT: Final = 64
"""Names that are remembered: every machine has the same few."""
_BOOT_NUMBER_DIGITS: Final = 4
_HEX: Final = frozenset("0123456789ABCDEFabcdef")
_U16: Final = Struct("<H")


class UefiVariable(NamedTuple):
    """One variable, believed by nobody yet.

    Attributes:
        vendor: Its vendor GUID, 16 bytes as logged.
        name: Its name.
        data: Its contents.
        surplus: Bytes that follow the structure; more than 0 only where the caller allowed it.
    """

    vendor: bytes
    name: str
    data: bytes
    surplus: int


_VARIABLE: Final[Callable[[tuple[bytes, str, bytes, int]], UefiVariable]] = partial(
    tuple.__new__, UefiVariable
)
"""As ``UefiVariable._make``, for fields of the right number."""


def parse_variable(content: bytes, *, surplus: int = 0) -> UefiVariable:
    """Read one variable; its lengths must be exactly those of the bytes.

    Args:
        content: The event's content.
        surplus: Bytes that may follow the structure: for known faults of writers only.

    Returns:
        The variable.

    Raises:
        MalformedInput: If the lengths do not add up to the content (``truncated``,
            ``trailing-bytes``) or the name is not UTF-16 text (``value-out-of-range``).
    """
    if len(content) >= _FIXED_BYTES:
        vendor, name_chars, data_bytes = _FIXED.unpack_from(content)
        begin = _FIXED_BYTES + 2 * name_chars
        if begin + data_bytes == len(content):
            name = content[_FIXED_BYTES:begin]
            text = _kept_name(name) if begin <= _KEPT_END else _name(name)
            return _VARIABLE((vendor, text, content[begin:], 0))
    return _by_fields(content, surplus)


def _by_fields(content: bytes, surplus: int) -> UefiVariable:
    """Read a variable whose lengths do not just add up, to take it or to tell what is wrong."""
    reader = Reader(content, _STRUCTURE)
    vendor, name_chars, data_bytes = reader.unpack(_FIXED, "fixed fields")
    name = reader.take(2 * name_chars, "name")
    data = reader.take(data_bytes, "data")
    left = reader.remaining
    if left > surplus:
        reader.end()
    return UefiVariable(vendor, _name(name), data, left)


def _name(name: bytes) -> str:
    try:
        text = name.decode("utf-16-le")
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text:
        raise Reader(name, _STRUCTURE).wrong("name", name[:32].hex(), "UTF-16 text")
    return text


_kept_name: Final = lru_cache(maxsize=256)(_name)
_KEPT_END: Final = _FIXED_BYTES + _LONGEST_KEPT


def switch_value(variable: UefiVariable) -> bool | None:
    """Return what a one-byte switch such as ``SecureBoot`` says; None for an absent variable.

    A variable that does not exist is measured with no data (PFP 1.06, 3.3.4).

    Raises:
        MalformedInput: ``value-out-of-range`` if the data is anything but one byte 0 or 1.
    """
    if not variable.data:
        return None
    if variable.data not in {b"\0", b"\1"}:
        reader = Reader(variable.data, variable.name)
        raise reader.wrong("data", variable.data[:8].hex(), "one byte, 00 or 01")
    return variable.data == b"\1"


def boot_number(variable: UefiVariable) -> int | None:
    """Return #### of a ``Boot####`` variable (UEFI 2.10, 3.3), None for any other variable."""
    digits = variable.name.removeprefix("Boot")
    if (
        variable.vendor != GLOBAL_VARIABLE
        or len(variable.name) != len("Boot") + _BOOT_NUMBER_DIGITS
        or len(digits) != _BOOT_NUMBER_DIGITS
        or not _HEX.issuperset(digits)
    ):
        return None
    return int(digits, 16)


def parse_boot_order(data: bytes) -> tuple[int, ...]:
    """Return the numbers of a ``BootOrder`` variable's data: an array of UINT16 (UEFI 2.10, 3.3).

    Raises:
        MalformedInput: ``truncated`` if the length is odd.
    """
    reader = Reader(data, "BootOrder")
    return tuple(reader.unpack(_U16, "boot number")[0] for _ in range((len(data) + 1) // 2))
