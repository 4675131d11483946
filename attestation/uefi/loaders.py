"""What boot loaders write into EV_IPL events: GRUB, shim, systemd-boot, systemd-stub.

The standard leaves EV_IPL to the boot loader. What each hashes, measured over every log in
``tests/data`` and read in the loaders' own documentation:

==================  ====  ==============================================  ======================
writer              PCR   content                                         what is hashed
==================  ====  ==============================================  ======================
GRUB 2              8     ``grub_cmd: …``, ``kernel_cmdline: …``,         the text after the
                          ``module_cmdline: …``, ended by NUL             prefix, without NUL
GRUB of CoreOS      8     ``grub_cmd …``, ``grub_kernel_cmdline …``       the same; of
                                                                          ``grub_cmd`` with NUL
GRUB, any           9     a file's name                                   the file
shim                14    ``MokList``, ``MokListX``, ``MokListTrusted``   the variable's data
systemd-boot < 251  8     UTF-16LE command line, one byte of its final    the whole text
                          NUL missing
systemd-boot, stub  12    UTF-16LE command line ended by NUL              the content
systemd-stub        11    name of a section of the unified kernel image,  first the name (ASCII,
                          UTF-16LE or ASCII, twice                        with NUL), then the
                                                                          section's content
==================  ====  ==============================================  ======================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple

from attestation.uefi.text import shown, utf8_text, utf16_text


class LineKind(StrEnum):
    """What a boot loader says that it measured."""

    COMMAND = "command"
    COMMAND_LINE = "command-line"


class LoaderLine(NamedTuple):
    """A text that a boot loader measured.

    Attributes:
        kind: What it is.
        text: The text, without the writer's prefix.
        measured: What was hashed, if the line is true.
        or_measured: What else may have been hashed: the same with its NUL.
        one_byte_short: Whether the content lacks the last byte of what was hashed.
    """

    kind: LineKind
    text: str
    measured: bytes
    or_measured: bytes
    one_byte_short: bool


_LINE: Final[Callable[[tuple[LineKind, str, bytes, bytes, bool]], LoaderLine]] = partial(
    tuple.__new__, LoaderLine
)
"""As ``LoaderLine._make``; most events of a log are such lines."""


GRUB_COMMAND: Final = b"grub_cmd: "
"""What nearly every line starts with; what follows it, without NUL, is what is hashed."""

_PREFIXES: Final = {
    b"grub_cmd:": LineKind.COMMAND,
    b"kernel_cmdline:": LineKind.COMMAND_LINE,
    b"module_cmdline:": LineKind.COMMAND,
    b"grub_cmd": LineKind.COMMAND,
    b"grub_kernel_cmdline": LineKind.COMMAND_LINE,
    b"grub_module_cmdline": LineKind.COMMAND,
}
"""What a line of GRUB says of itself before the first space."""


def parse_loader_line(content: bytes) -> LoaderLine | None:
    """Read a command or command line out of an EV_IPL event's content.

    Returns:
        The line, not yet proven, or None if the content is no such line.
    """
    prefix, space, rest = content.partition(b" ")
    kind = _PREFIXES.get(prefix)
    if kind is not None and space:
        bare = rest.rstrip(b"\0")
        return _LINE((kind, bare.decode("utf-8", "backslashreplace"), bare, rest, False))
    short = len(content) % 2 == 1
    whole = content + b"\0" if short else content
    text16 = utf16_text(whole) if len(whole) > 1 else None
    if not text16 or content[1:2] != b"\0":
        return None
    return LoaderLine(LineKind.COMMAND_LINE, text16, whole, whole, one_byte_short=short)


def command_text(content: bytes) -> str:
    """Return the command that a line holds, or the line for people if no known loader wrote it."""
    line = parse_loader_line(content)
    return shown(content) if line is None else line.text


def measured_name(content: bytes) -> str:
    """Return the name that an EV_IPL event gives to what it measured, ASCII or UTF-16LE.

    Bytes that are no text are shown in hexadecimal.
    """
    text = utf16_text(content) if content[1:2] == b"\0" and len(content) > 2 else None  # noqa: PLR2004
    return text or utf8_text(content) or content[:32].hex()


def section_name_bytes(name: str) -> Iterator[bytes]:
    """Yield what systemd-stub hashes for the name of a section: the name in ASCII, with NUL."""
    yield name.encode("utf-8", "replace") + b"\0"
    yield name.encode("utf-8", "replace")
