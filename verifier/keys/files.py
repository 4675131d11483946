"""Key files: mode 0600 in a directory of mode 0700, written so that a crash leaves old or new."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from attestation.refusals import RefusalCode
from verifier.errors import SettingsInvalid, Unavailable

_SECRETS: Final = (".key", ".key.pem", ".passphrase")


def make_directory(directory: Path) -> None:
    """Make the key directory (0700) if it is absent.

    Raises:
        Unavailable: If it cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise Unavailable(
            RefusalCode.STATE_UNWRITABLE, f"the key directory {directory}: {error.strerror}"
        ) from error


def check_directory(directory: Path) -> None:
    """Refuse a key directory that is absent or that others may read.

    Raises:
        SettingsInvalid: With what to do.
    """
    if not directory.is_dir():
        raise SettingsInvalid(f"keys.directory {directory} is not there; run: verifier init")
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        raise SettingsInvalid(
            f"keys.directory {directory} is open to others; run: chmod 700 {directory}"
        )
    for path in directory.rglob("*"):
        if path.name.endswith(_SECRETS) and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SettingsInvalid(f"key file {path} is open to others; run: chmod 600 {path}")


def write_secret(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole: temporary name, fsync, rename, fsync of the directory.

    Raises:
        Unavailable: If it cannot be written.
    """
    _write(path, content, 0o600)


def write_public(path: Path, content: bytes) -> None:
    """Write a file of mode 0644 in the same way.

    Raises:
        Unavailable: If it cannot be written.
    """
    _write(path, content, 0o644)


def read_file(path: Path) -> bytes:
    """Read a key or certificate file.

    Raises:
        SettingsInvalid: If it is not there or not readable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}; run: verifier init") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(content)
            while view:  # A full disk takes a part, and says so only at the next write.
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unavailable(RefusalCode.STATE_UNWRITABLE, f"{path}: {error.strerror}") from error
