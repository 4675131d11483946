"""The agent's folder on the disk: what is in it, and the digest of a file. Never leaves the root.

Names are bytes and become text with ``surrogateescape``. Nothing but regular files is opened, and
never through a link that was not looked at.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from attestation.limits import MAX_AGENT_PATH_BYTES, MAX_AGENT_RECORDS
from attestation.logs.cel import RecordKind
from attestation.refusals import RefusalCode
from device_agent.errors import SourceUnreadable
from device_agent.measure.patterns import Excludes
from device_agent.measure.plan import Found, StatKey

MOST_FILE_BYTES: Final = 256 * 1024**3
"""The largest file that is hashed; the largest open models are of half that size."""

MOST_FOLDERS: Final = 16_384
"""Folders looked into; above that the root is not an agent's folder."""

_CHUNK: Final = 1024 * 1024
_BEATS_EVERY: Final = 256
"""Chunks between two signs of life while a large file is hashed."""
_TRIES: Final = 3
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True)
class Folder:
    """What was found.

    Attributes:
        found: By path relative to the root.
        places: Where each file of kind ``FILE`` is to be opened.
        complete: False if there is more than we look at.
    """

    found: dict[str, Found] = field(default_factory=dict)
    places: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True


def look(
    root: Path,
    *,
    excludes: Excludes,
    listed: frozenset[str],
    skip: Path,
    most: int = MAX_AGENT_RECORDS,
) -> Folder:
    """List the agent's folder.

    Args:
        root: The folder.
        excludes: What is left out unless it is listed.
        listed: Paths that the AIBOM lists.
        skip: A file that is measured otherwise (the AIBOM itself).
        most: Paths that are taken; above that ``complete`` is False.

    Raises:
        SourceUnreadable: If there is no such folder, or it may not be read.
    """
    base = os.path.realpath(os.fsencode(root))
    above = frozenset(
        path[:place] for path in listed for place, letter in enumerate(path) if letter == "/"
    )
    walk = _Walk(base, excludes, listed, above, os.path.realpath(os.fsencode(skip)), most)
    try:
        os.listdir(base)  # noqa: PTH208 - names are bytes
    except OSError as error:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE,
            f"agent.root {root} cannot be read: {error.strerror}; give the daemon's user the right "
            "to read it, or correct agent.root",
        ) from error
    return walk.run()


class _Walk:
    def __init__(
        self,
        base: bytes,
        excludes: Excludes,
        listed: frozenset[str],
        above: frozenset[str],
        skip: bytes,
        most: int,
    ) -> None:
        self._base = base
        self._excludes = excludes
        self._listed = listed
        self._above = above
        self._skip = skip
        self._most = most
        self._folders: list[bytes] = [b""]
        self._result = Folder()

    def run(self) -> Folder:
        looked = 0
        while self._folders and self._result.complete:
            looked += 1
            if looked > MOST_FOLDERS:
                self._result.complete = False
                break
            self._folder(self._folders.pop())
        return self._result

    def _folder(self, relative: bytes) -> None:
        try:
            with os.scandir(self._full(relative)) as entries:
                for entry in entries:
                    name = relative + b"/" + entry.name if relative else entry.name
                    self._entry(entry, name)
                    if len(self._result.found) > self._most:
                        self._result.complete = False
                        return
        except FileNotFoundError:
            return
        except OSError:
            self._put(_text(relative), Found(kind=RecordKind.UNREADABLE, key=_NO_KEY))

    def _full(self, relative: bytes) -> bytes:
        return self._base + b"/" + relative if relative else self._base

    def _entry(self, entry: os.DirEntry[bytes], name: bytes) -> None:
        path, full = _text(name), self._full(name)
        if len(name) > MAX_AGENT_PATH_BYTES:
            self._result.complete = False
        elif entry.is_dir(follow_symlinks=False):
            if not self._excludes.covers(path) or path in self._above:
                self._folders.append(name)
        elif self._excludes.covers(path) and path not in self._listed:
            return
        elif entry.is_symlink():
            self._link(path, full)
        elif full != self._skip:
            self._file(path, full)

    def _link(self, path: str, full: bytes) -> None:
        target = os.path.realpath(full)
        inside = target.startswith(self._base + b"/")
        try:
            facts = os.stat(full) if inside else None  # noqa: PTH116 - names are bytes
            text = os.readlink(full)  # noqa: PTH115 - names are bytes
        except OSError:
            facts, text = None, b""
        if facts is None:
            self._put(path, Found(kind=RecordKind.OUTSIDE, key=_NO_KEY))
        elif stat.S_ISDIR(facts.st_mode):
            digest = hashlib.sha256(text).digest()
            self._put(path, Found(kind=RecordKind.LINK, key=_NO_KEY, digest=digest))
        else:
            self._file(path, target)

    def _file(self, path: str, full: bytes) -> None:
        try:
            facts = os.lstat(full)
        except FileNotFoundError:
            return
        except OSError:
            self._put(path, Found(kind=RecordKind.UNREADABLE, key=_NO_KEY))
            return
        kind = RecordKind.FILE
        if not stat.S_ISREG(facts.st_mode):
            kind = RecordKind.SPECIAL
        elif facts.st_size > MOST_FILE_BYTES:
            kind = RecordKind.TOO_LARGE
        self._put(path, Found(kind=kind, key=key_of(facts)))
        self._result.places[path] = full

    def _put(self, path: str, found: Found) -> None:
        self._result.found[path] = found


_NO_KEY: Final[StatKey] = (0, 0, 0, 0, 0)


def key_of(facts: os.stat_result) -> StatKey:
    """Return what must stay the same for a file to count as unchanged."""
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """One file, read.

    Attributes:
        kind: ``FILE``, or why there is no digest.
        digest: SHA-256; zeros without.
        key: Of the content that was hashed.
        changed_ns: When the file last changed (its ctime), nanoseconds.
    """

    kind: RecordKind
    digest: bytes
    key: StatKey
    changed_ns: int


def hash_file(place: bytes, alive: Callable[[], None]) -> Hashed | None:
    """Hash one regular file in pieces; None if it is there no more.

    Args:
        place: The file; not a link.
        alive: Called now and then while a large file is read.
    """
    for _ in range(_TRIES):
        try:
            descriptor = os.open(place, _OPEN)
        except FileNotFoundError:
            return None
        except OSError:
            return _unread(RecordKind.UNREADABLE)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return _unread(RecordKind.SPECIAL)
            digest = _digest(descriptor, alive)
            if key_of(os.fstat(descriptor)) == key_of(before):
                return Hashed(
                    kind=RecordKind.FILE,
                    digest=digest,
                    key=key_of(before),
                    changed_ns=before.st_ctime_ns,
                )
        except OSError:
            return _unread(RecordKind.UNREADABLE)
        finally:
            os.close(descriptor)
    return _unread(RecordKind.UNSTEADY)


def _digest(descriptor: int, alive: Callable[[], None]) -> bytes:
    hasher = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    chunks = total = 0
    while (count := os.readv(descriptor, [buffer])) and total <= MOST_FILE_BYTES:
        hasher.update(view[:count])
        total += count
        chunks += 1
        if chunks % _BEATS_EVERY == 0:
            alive()
    return hasher.digest()


def _unread(kind: RecordKind) -> Hashed:
    return Hashed(kind=kind, digest=bytes(32), key=_NO_KEY, changed_ns=0)


def read_document(path: Path, limit: int) -> bytes:
    """Read the AIBOM.

    Raises:
        SourceUnreadable: If it cannot be read or is larger than the limit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE,
            f"agent.aibom {path} cannot be read: {error.strerror}; put the AIBOM there, or give "
            "the daemon's user the right to read it",
        ) from error
    if len(content) > limit:
        raise SourceUnreadable(
            RefusalCode.TOO_LARGE, f"agent.aibom {path} is larger than {limit} bytes"
        )
    return content
