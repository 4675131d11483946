"""The event log on the disk, one file for this boot: written ahead of every extend.

A record is appended before the PCR is extended, so the file is never behind the PCR and at most
one record ahead. Nothing is flushed: what a power cut could lose speaks of a PCR that the power
cut clears.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from attestation.limits import MAX_AGENT_LOG_BYTES
from device_agent.errors import StateUnwritable

_PREFIX: Final = "agent-log."
_SUFFIX: Final = ".cel"
_NEW: Final = ".agent-log.new"
_MOST_OLD: Final = 8
"""Logs of earlier boots that are looked at after a kexec, which keeps PCRs and changes the id."""


class AgentLogFile:
    """The log of one boot in the state directory.

    Args:
        directory: The state directory.
        boot_id: The kernel's id of this boot; empty if there is none.
    """

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._directory = directory
        word = "".join(letter for letter in boot_id if letter.isalnum() or letter == "-")
        self.path = directory / f"{_PREFIX}{word or 'unknown'}{_SUFFIX}"

    def kept(self) -> tuple[bytes, ...]:
        """Return the logs that are there: this boot's first, then others, newest first."""
        found = []
        for path in (self.path, *self._others()[:_MOST_OLD]):
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_AGENT_LOG_BYTES + 1)
            except OSError:
                continue
            if content:
                found.append(content)
        return tuple(found)

    def replace(self, content: bytes) -> None:
        """Make this the only log, whole.

        Raises:
            StateUnwritable: If it cannot be written; the old file is then still there.
        """
        new = self._directory / _NEW
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            _append(new, content)
            new.replace(self.path)
            for old in self._others():
                old.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, record: bytes) -> None:
        """Add one record, whole or not at all.

        Raises:
            StateUnwritable: If the disk is full or the directory is not writable.
        """
        size = -1
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
            _append(self.path, record)
        except OSError as error:
            self._cut(size)
            raise self._unwritable(error) from error

    def _cut(self, size: int) -> None:
        try:
            if size >= 0:
                os.truncate(self.path, size)
        except OSError:
            return

    def _others(self) -> list[Path]:
        try:
            paths = [
                path for path in self._directory.glob(f"{_PREFIX}*{_SUFFIX}") if path != self.path
            ]
            return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        except OSError:
            return []

    def _unwritable(self, error: OSError) -> StateUnwritable:
        return StateUnwritable(
            f"{self.path} cannot be written: {error.strerror}; free space, or give the directory "
            "to the daemon's user"
        )


def _append(path: Path, content: bytes) -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
