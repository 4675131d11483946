"""EFI_LOAD_OPTION: what a Boot#### variable holds (UEFI 2.10, 3.1.3)."""

from __future__ import annotations

from typing import Final, NamedTuple

from attestation.reader import Reader, Struct

_FIXED: Final = Struct("<IH")
_ACTIVE: Final = 0x1
_NUL: Final = b"\0\0"


class LoadOption(NamedTuple):
    """One boot option, believed by nobody yet.

    Attributes:
        active: Whether the boot manager may use it.
        description: Its name in the boot menu.
        path: Its device path list, as bytes.
        optional_data: What is handed to the loaded program.
    """

    active: bool
    description: str
    path: bytes
    optional_data: bytes


def parse_load_option(data: bytes) -> LoadOption:
    """Read one boot option.

    Args:
        data: The variable's data.

    Raises:
        MalformedInput: If it is cut off (``truncated``) or its description is not UTF-16 text
            (``value-out-of-range``).
    """
    reader = Reader(data, "EFI_LOAD_OPTION")
    attributes, path_bytes = reader.unpack(_FIXED, "fixed fields")
    start = reader.offset
    chars = data.find(_NUL, start)
    while chars >= 0 and (chars - start) % 2:  # a NUL is two zero bytes at an even place
        chars = data.find(_NUL, chars + 1)
    if chars < 0:
        raise reader.wrong("Description", data[start : start + 32].hex(), "text ended by NUL")
    reader.offset = chars + len(_NUL)
    raw = data[start:chars]
    try:
        description = raw.decode("utf-16-le")
    except UnicodeDecodeError:
        raise reader.wrong("Description", raw[:32].hex(), "UTF-16 text") from None
    path = reader.take(path_bytes, "device path")
    return LoadOption(bool(attributes & _ACTIVE), description, path, data[reader.offset :])
