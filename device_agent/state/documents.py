"""How state is written and read: durably, whole or not at all, with a digest over it."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from device_agent.lifecycle import Fault


def write_durably(path: Path, content: bytes, *, mode: int = 0o600, group: int = -1) -> None:
    """Write a file and flush it to the disk; never through a link.

    Args:
        path: The file; what was there is replaced.
        content: All of it.
        mode: Its permissions.
        group: Its group's number; -1 for the process's own.

    Raises:
        OSError: If it cannot be written.
    """
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if group != -1:
            os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_directory(path: Path) -> None:
    """Flush a directory to the disk, so that a rename in it lasts."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: Path, content: bytes, *, mode: int = 0o600, group: int = -1) -> None:
    """Put a file in place of what was there, in one step, durably.

    Raises:
        OSError: If it cannot be written; what was there is then still whole.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        write_durably(new, content, mode=mode, group=group)
        new.replace(path)
        flush_directory(path.parent)
    except OSError:
        remove_quietly(new)
        raise


def remove_quietly(path: Path) -> None:
    """Remove a file, if it is there and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def digest_of(body: object) -> str:
    """Return the digest over a JSON document, however it is laid out."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def moment_in(text: str) -> datetime:
    """Read a moment with its time zone; ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment


def fault_out(fault: Fault) -> dict[str, str]:
    """Return a fault as JSON holds it."""
    return {"code": str(fault.code), "reason": fault.reason, "at": fault.at.isoformat()}


def fault_in(body: Any) -> Fault | None:  # noqa: ANN401 - what JSON holds
    """Read a fault; None for none."""
    if body is None:
        return None
    return Fault(code=str(body["code"]), reason=str(body["reason"]), at=moment_in(body["at"]))
