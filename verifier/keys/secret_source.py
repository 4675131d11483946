"""Passphrases and PINs: from a systemd credential, or from a file that only its owner may read.

Never from an argument or an environment variable's value: both are readable by others and end up in
histories. systemd names the folder of a unit's credentials in ``CREDENTIALS_DIRECTORY``
(systemd.exec(5)).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.refusals import RefusalCode
from verifier.errors import SettingsInvalid, Unavailable

CREDENTIALS_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
MAX_SECRET_BYTES: Final = 1024
MIN_PASSPHRASE_CHARS: Final = 16
"""Whoever copied the key file may try passphrases at leisure."""

MIN_PIN_CHARS: Final = 4
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_OTHERS: Final = 0o007
_ANYBODY_ELSE: Final = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where one secret is.

    Attributes:
        purpose: What it is, for errors: ``passphrase``, ``PIN``.
        path: The file.
        is_credential: Whether systemd put it there.
        minimum: Characters it has at least.
    """

    purpose: str
    path: Path
    is_credential: bool
    minimum: int = MIN_PASSPHRASE_CHARS

    def read(self) -> bytes:
        """Return the secret without its line end.

        Raises:
            Unavailable: ``keys-unusable`` if it is absent, ``ca-key-exposed`` if others may read
                it, ``ca-passphrase-wrong`` if it cannot be one.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                content = os.read(descriptor, MAX_SECRET_BYTES + 2)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Unavailable(
                RefusalCode.KEYS_UNUSABLE, f"the {self.purpose} in {self.path}: {error.strerror}"
            ) from error
        # systemd grants a unit its credentials by an ACL, which shows as the group's bits.
        if mode & (_OTHERS if self.is_credential else _ANYBODY_ELSE):
            raise Unavailable(
                RefusalCode.CA_KEY_EXPOSED,
                f"the {self.purpose} in {self.path} is open to others (mode {mode:04o}); "
                f"run: chmod 600 {self.path}",
            )
        secret = content.removesuffix(b"\n").removesuffix(b"\r")
        if not self.minimum <= len(secret) <= MAX_SECRET_BYTES or b"\0" in secret:
            raise Unavailable(
                RefusalCode.CA_PASSPHRASE_WRONG,
                f"the {self.purpose} in {self.path} must have {self.minimum} to "
                f"{MAX_SECRET_BYTES} bytes on one line",
            )
        return secret


def passphrase_file(path: Path) -> SecretSource:
    """Return the source of a passphrase in a file."""
    return SecretSource(purpose="passphrase", path=path, is_credential=False)


def secret_source(
    purpose: str,
    *,
    credential: str,
    file: Path | None,
    environment: Mapping[str, str],
    minimum: int = MIN_PASSPHRASE_CHARS,
) -> SecretSource:
    """Return the source that the settings name: the credential if one is named, else the file.

    Raises:
        SettingsInvalid: If a credential's name is none, or neither is named.
        Unavailable: ``keys-unusable`` if a credential is named outside of a unit that has it.
    """
    if credential:
        if not _CREDENTIAL.fullmatch(credential) or credential in {".", ".."}:
            raise SettingsInvalid(f"{credential!r} is no name of a systemd credential")
        folder = environment.get(CREDENTIALS_DIRECTORY, "")
        if not folder:
            raise Unavailable(
                RefusalCode.KEYS_UNUSABLE,
                f"the {purpose} is the systemd credential {credential}, and systemd has given "
                "none; run this by: systemd-run --pipe --wait --property=LoadCredential=…",
            )
        return SecretSource(
            purpose=purpose, path=Path(folder) / credential, is_credential=True, minimum=minimum
        )
    if file is None:
        raise SettingsInvalid(
            f"[authority] names neither a credential nor a file for the {purpose}"
        )
    return SecretSource(purpose=purpose, path=file, is_credential=False, minimum=minimum)
