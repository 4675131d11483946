"""The running kernel's IMA measurement list: what is new since the verifier last saw it.

The list only grows, and securityfs gives neither its size nor a way to begin in its middle that
holds for every kernel. So the file is read through; what was sent before is thrown away unread,
and only the new entries are walked, by their length fields.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from attestation.evidence import ImaPart
from attestation.limits import MAX_IMA_LIST_BYTES, MAX_IMA_PART_BYTES
from attestation.logs.ima.framing import hash_size
from attestation.logs.ima.template import LEGACY, LEGACY_DIGEST_BYTES
from attestation.reader import LE_U32
from attestation.refusals import RefusalCode
from device_agent.errors import SourceUnreadable

_CHUNK: Final = 256 * 1024
_COUNT_FILE: Final = "runtime_measurements_count"
_MOST_COUNT_BYTES: Final = 32
_BEFORE_BYTES: Final = 64
"""So much of what precedes a mark is remembered, to see that the list is still the same one."""

_WORD: Final = 4
_HEAD_BYTES: Final = 128
"""More than an entry takes up to the end of its template's name."""

_MOST_NAME: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """Where in the file an entry begins, and the bytes before it."""

    entry: int
    offset: int
    before: bytes


_START: Final = _Mark(entry=0, offset=0, before=b"")


class ImaListFile:
    """Implements :class:`device_agent.ports.ImaList`.

    Args:
        path: ``binary_runtime_measurements``; None to send no list.
        limit_bytes: The most new bytes that fit into one evidence.
    """

    def __init__(self, path: Path | None, *, limit_bytes: int = MAX_IMA_PART_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._mark = _START

    def read_from(self, entry: int) -> ImaPart | None:
        """Return the whole entries from number ``entry`` on; None if the kernel has no list.

        If the list holds fewer entries than that (another boot), it is returned whole, offset 0.

        Raises:
            SourceUnreadable: If it exists but cannot be read or is no such list
                (``source-unreadable``), or holds more new bytes than one evidence may
                (``ima-list-too-long``).
        """
        if self._path is None:
            return None
        try:
            if entry and self._count(self._path) == entry:
                return ImaPart(offset=entry, content=b"")
            content = self._entries(self._path, entry)
            if content is None:
                self._mark = _START
                entry, content = 0, self._entries(self._path, 0)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(
                f"cannot be read: {error.strerror}; give the daemon's user the right to read it, "
                "or set evidence.ima_list"
            ) from error
        return ImaPart(offset=entry, content=content or b"") if entry or content else None

    def _count(self, path: Path) -> int | None:
        """Return how many entries the kernel says there are; None if it does not say."""
        try:
            with path.with_name(_COUNT_FILE).open("rb") as file:
                return int(file.read(_MOST_COUNT_BYTES))
        except (OSError, ValueError):
            return None

    def _entries(self, path: Path, entry: int) -> bytes | None:
        """Return the entries from number ``entry`` on; None if there are not so many.

        What this reads, the verifier asks to continue from: the mark moves to ``entry``.
        """
        mark = self._mark if self._mark.entry <= entry else _START
        with path.open("rb", buffering=0) as file:
            before = _skip(file, mark.offset)
            if before != mark.before:
                return None
            content = self._rest(file)
        found, start = _walk(content, 0, entry - mark.entry)
        if found < entry - mark.entry:
            return None
        size = _walk(content, start, None)[1] - start
        if content and not (entry or size):
            raise self._unreadable("is not a binary IMA measurement list")
        if size > self._limit_bytes:
            raise SourceUnreadable(
                RefusalCode.IMA_LIST_TOO_LONG,
                f"{self._path} holds {size} bytes that the verifier does not have, at most "
                f"{self._limit_bytes} can be sent and proven at once; boot again, and measure less "
                "by a narrower IMA policy (docs/runtime-policy.md)",
            )
        self._mark = _Mark(
            entry=entry,
            offset=mark.offset + start,
            before=(before + content[max(0, start - _BEFORE_BYTES) : start])[-_BEFORE_BYTES:],
        )
        del content[start + size :], content[:start]
        return bytes(content)

    def _rest(self, file: BinaryIO) -> bytearray:
        content = bytearray()
        while chunk := file.read(_CHUNK):
            content += chunk
            if len(content) > MAX_IMA_LIST_BYTES:
                raise OSError(errno.EFBIG, f"it is larger than {MAX_IMA_LIST_BYTES} bytes")
        return content

    def _unreadable(self, why: str) -> SourceUnreadable:
        return SourceUnreadable(RefusalCode.SOURCE_UNREADABLE, f"{self._path} {why}")


def _skip(file: BinaryIO, count: int) -> bytes:
    """Read over ``count`` bytes and return the last few of them; fewer if the file ends first."""
    last = b""
    while count and (chunk := file.read(min(_CHUNK, count))):
        count -= len(chunk)
        last = (last + chunk)[-_BEFORE_BYTES:]
    return b"" if count else last


def _walk(content: bytearray, start: int, most: int | None) -> tuple[int, int]:
    """Step over whole entries (Linux ``ima_measurements_show``, little-endian).

    Args:
        content: Entries; the last one may be cut.
        start: Where the first one begins.
        most: Step over so many at most; None for all.

    Returns:
        How many were stepped over, and where the next one begins.
    """
    unpack, end = LE_U32.unpack_from, len(content)
    to_name = _WORD + hash_size(bytes(content[start : start + _HEAD_BYTES])) + _WORD
    count, place = 0, start
    while count != most:
        named = place + to_name
        if named > end:
            break
        size: int = unpack(content, named - _WORD)[0]
        after = named + size
        if size > _MOST_NAME:
            break
        if content[named:after] == LEGACY:  # no length of the whole: a digest, then the name
            after += LEGACY_DIGEST_BYTES
        if after + _WORD > end:
            break
        after += _WORD + unpack(content, after)[0]
        if after > end:
            break
        place = after
        count += 1
    return count, place
