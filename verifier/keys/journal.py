"""A manufacturing line's journal: one file that only grows, each entry on disk before it counts.

One line of JSON for each entry, chained as :mod:`verifier.issuance.log` says. A line that a power
loss cut short was never acted upon, and is cut off.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from attestation.refusals import RefusalCode
from attestation.wire.strict_json import parse_json
from verifier.errors import Unavailable
from verifier.issuance.log import Chain, ChainBroken, canonical, entry_digest

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_Entry = tuple[int, datetime, str, Mapping[str, Any]]


class FileJournal:
    """The journal at ``path``, made if absent, held until :meth:`close`; another process waits.

    Raises:
        Unavailable: ``state-unwritable`` if it cannot be opened, ``line-journal-broken`` if an
            entry was changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            _sync_folder(path.parent)
            self._chain = Chain()
            self._entries: list[_Entry] = []
            self._size = self._load()
        except OSError as error:
            os.close(self._file)
            raise self._unwritable(error) from error
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)

    @property
    def head(self) -> bytes:
        """The newest entry's digest: whoever noted it elsewhere can tell later changes."""
        return self._chain.head

    def entries(self) -> Iterable[_Entry]:
        """Return number, moment, kind and content of every entry, in order."""
        return tuple(self._entries)

    def append(self, kind: str, entry: Mapping[str, object], at: datetime) -> int:
        """Put an entry on disk; returns its number.

        Raises:
            Unavailable: If it cannot be written; then it is not there.
        """
        number, previous = self._chain.number + 1, self._chain.head
        at_us = (at - _EPOCH) // _MICROSECOND
        text = canonical(entry)
        digest = entry_digest(previous, number, at_us, kind, text)
        row = {
            "number": number,
            "at_us": at_us,
            "kind": kind,
            "entry": entry,
            "previous": previous.hex(),
            "sha256": digest.hex(),
        }
        written = canonical(row).encode() + b"\n"
        try:
            _write_whole(self._file, written, self._size)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise self._unwritable(error) from error
        self._chain.follow([(number, at_us, kind, text, previous, digest)])
        self._size += len(written)
        self._entries.append((number, at, kind, dict(entry)))
        return number

    def _load(self) -> int:
        """Read and check every entry; returns the size of what counts, cutting off the rest."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            self._entries.append(self._read(line))
        if whole != len(content):
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        return whole

    def _read(self, line: bytes) -> _Entry:
        expected = self._chain.number + 1
        try:
            row = parse_json(line)
            number, at_us, kind = int(row["number"]), int(row["at_us"]), str(row["kind"])
            entry = row["entry"]
            text = canonical(entry)
            previous, digest = bytes.fromhex(row["previous"]), bytes.fromhex(row["sha256"])
            self._chain.follow([(number, at_us, kind, text, previous, digest)])
        except ChainBroken as error:
            raise self._broken(error.number, error.reason) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._broken(expected, "it cannot be read") from error
        return number, _EPOCH + at_us * _MICROSECOND, kind, entry

    def _broken(self, number: int, reason: str) -> Unavailable:
        return Unavailable(
            RefusalCode.LINE_JOURNAL_BROKEN, f"{self._path}, entry {number}: {reason}"
        )

    def _unwritable(self, error: OSError) -> Unavailable:
        return Unavailable(RefusalCode.STATE_UNWRITABLE, f"{self._path}: {error.strerror}")


def _write_whole(file: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:  # A full disk takes a part, and says so only at the next write.
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
