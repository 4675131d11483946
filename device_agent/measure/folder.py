"""The agent's folder on the disk: what is in it, and the digest of a file. Never leaves the root.

Names are bytes and become text with ``surrogateescape``. Every path is walked name by name from the
root, and no name on the way may be a link: whoever swaps a folder for a link that leads out between
two of our steps is told as unsteady, and nothing outside is opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
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
_IN_MEMORY: Final = (b"tmpfs", b"ramfs", b"hugetlbfs")
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_STEP: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_SWAPPED: Final = (errno.ELOOP, errno.ENOTDIR)
"""What opening gives where a link stands that is not to be followed."""


@dataclass(slots=True)
class Folder:
    """What was found.

    Attributes:
        base: The root, without links.
        found: By path relative to the root.
        places: Where each file of kind ``FILE`` is to be opened, relative to ``base``.
        complete: False if there is more than we look at.
    """

    base: bytes
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
        return walk.run()
    except OSError as error:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE,
            f"agent.root {root} cannot be read: {error.strerror}; give the daemon's user the right "
            "to read it, or correct agent.root",
        ) from error


def _open_beneath(base: bytes, relative: bytes, flags: int) -> int:
    """Open what is at a path below a folder; no name on the way may be a link."""
    folder = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *above, last = relative.split(b"/")
        for name in above:
            below = os.open(name, _STEP | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(last or b".", flags, dir_fd=folder)
    finally:
        os.close(folder)


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
        self._result = Folder(base=base)

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
            descriptor = _open_beneath(self._base, relative, _LIST)
            try:
                self._entries(relative, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not relative:
                raise
            if not isinstance(error, FileNotFoundError):
                self._put(_text(relative), Found(kind=RecordKind.UNREADABLE, key=_NO_KEY))

    def _entries(self, relative: bytes, descriptor: int) -> None:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                self._entry(entry, relative + b"/" + name if relative else name)
                if len(self._result.found) > self._most:
                    self._result.complete = False
                    return

    def _entry(self, entry: os.DirEntry[str], name: bytes) -> None:
        path = _text(name)
        if len(name) > MAX_AGENT_PATH_BYTES:
            self._result.complete = False
        elif entry.is_dir(follow_symlinks=False):
            if not self._excludes.covers(path) or path in self._above:
                self._folders.append(name)
        elif self._excludes.covers(path) and path not in self._listed:
            return
        elif entry.is_symlink():
            self._link(path, name)
        elif self._base + b"/" + name != self._skip:
            self._file(path, name)

    def _link(self, path: str, name: bytes) -> None:
        full = self._base + b"/" + name
        target, root = os.path.realpath(full), self._base + b"/"
        place = target.removeprefix(root)
        try:
            facts = self._facts(place) if target.startswith(root) else None
            text = os.readlink(full)  # noqa: PTH115 - names are bytes
        except OSError:
            facts, text = None, b""
        if facts is None or stat.S_ISLNK(facts.st_mode):
            self._put(path, Found(kind=RecordKind.OUTSIDE, key=_NO_KEY))
        elif stat.S_ISDIR(facts.st_mode):
            digest = hashlib.sha256(text).digest()
            self._put(path, Found(kind=RecordKind.LINK, key=_NO_KEY, digest=digest))
        else:
            self._file(path, place)

    def _facts(self, place: bytes) -> os.stat_result:
        descriptor = _open_beneath(self._base, place, _STEP)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _file(self, path: str, place: bytes) -> None:
        try:
            facts = self._facts(place)
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
        self._result.places[path] = place

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


def hash_file(base: bytes, place: bytes, alive: Callable[[], None]) -> Hashed | None:
    """Hash one regular file in pieces; None if it is there no more.

    What was written to it through a mapping is brought to the disk first: only a page that is clean
    tells the file's times when it is written to again (mmap(2), "Timestamps changes").

    Args:
        base: The root.
        place: The file, relative to the root.
        alive: Called now and then while a large file is read.
    """
    for _ in range(_TRIES):
        try:
            descriptor = _open_beneath(base, place, _OPEN)
        except FileNotFoundError:
            return None
        except OSError as error:
            swapped = error.errno in _SWAPPED
            return _unread(RecordKind.UNSTEADY if swapped else RecordKind.UNREADABLE)
        try:
            hashed = _hash_open(descriptor, alive)
        except OSError:
            return _unread(RecordKind.UNREADABLE)
        finally:
            os.close(descriptor)
        if hashed is not None:
            return hashed
    return _unread(RecordKind.UNSTEADY)


def _hash_open(descriptor: int, alive: Callable[[], None]) -> Hashed | None:
    """Hash what was opened; None if it changed meanwhile."""
    with suppress(OSError):
        os.fdatasync(descriptor)
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        return _unread(RecordKind.SPECIAL)
    if before.st_size > MOST_FILE_BYTES:
        return _unread(RecordKind.TOO_LARGE)
    digest = _digest(descriptor, alive)
    if key_of(os.fstat(descriptor)) != key_of(before):
        return None
    return Hashed(
        kind=RecordKind.FILE, digest=digest, key=key_of(before), changed_ns=before.st_ctime_ns
    )


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


def timeless_devices() -> frozenset[int]:
    """Return the device numbers of mounts in memory, where a mapping is written without a trace."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:  # proc(5): number, parent, major:minor, … - type, source, options
        mount, _, kind = line.partition(b" - ")
        if kind.split(b" ", 1)[0] in _IN_MEMORY:
            major, minor = mount.split(b" ", 3)[2].split(b":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def read_document(path: Path, limit: int) -> bytes:
    """Read the AIBOM.

    Raises:
        SourceUnreadable: If it cannot be read or is larger than the limit.
    """
    try:
        # Not to wait for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = file.read(limit + 1) if regular else b""
    except OSError as error:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE,
            f"agent.aibom {path} cannot be read: {error.strerror}; put the AIBOM there, or give "
            "the daemon's user the right to read it",
        ) from error
    if not regular:
        raise SourceUnreadable(
            RefusalCode.SOURCE_UNREADABLE,
            f"agent.aibom {path} is no regular file; put the AIBOM there",
        )
    if len(content) > limit:
        raise SourceUnreadable(
            RefusalCode.TOO_LARGE, f"agent.aibom {path} is larger than {limit} bytes"
        )
    return content
