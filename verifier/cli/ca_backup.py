"""``verifier ca backup`` and ``ca restore``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.authority_log import record, require_log
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded
from verifier.errors import SettingsInvalid
from verifier.keys.backup import (
    MAX_BACKUP_BYTES,
    open_backup,
    restore_backup,
    seal_backup,
    take_backup,
)
from verifier.keys.ca_keys import CaKeys
from verifier.keys.files import write_secret
from verifier.keys.secret_source import passphrase_file
from verifier.sources import SystemClock, SystemEntropy

BackupFile = Annotated[Path, typer.Argument(readable=False, help="The backup's file.")]
Passphrase = Annotated[
    Path, typer.Option(readable=False, help="File (0600) with the backup's own passphrase.")
]


def backup(file: BackupFile, *, passphrase: Passphrase, as_json: Json = False) -> None:
    """Write the whole key directory, without the root's key, into one encrypted file (0600)."""
    settings, at = context.settings(), SystemClock().now()
    require_log(settings)
    if file.exists():
        raise SettingsInvalid(f"{file} is there already; name another file")
    secret = passphrase_file(passphrase).read()
    directory = Path(settings.keys.directory)
    keys = CaKeys(directory, settings.authority, os.environ)
    try:
        taken = take_backup(directory, keys, at)
    finally:
        keys.close()
    write_secret(file, seal_backup(taken, secret, SystemEntropy()))
    record(settings, "backed-up", {"files": len(taken.files)}, at)
    output.tell(
        {"file": str(file), "files": len(taken.files), "made_at": moment(at)},
        f"wrote {file}: {len(taken.files)} files; back up the store too "
        "(docs/certificate-authority.md)",
        as_json=as_json,
    )


def restore(file: BackupFile, *, passphrase: Passphrase, as_json: Json = False) -> None:
    """Write a backup into the key directory, which must have no authority yet."""
    settings, at = context.settings(), SystemClock().now()
    require_log(settings)
    content = read_bounded(file, MAX_BACKUP_BYTES)
    found = open_backup(content, passphrase_file(passphrase).read())
    directory = Path(settings.keys.directory)
    keys = CaKeys(directory, settings.authority, os.environ)
    try:
        restored = restore_backup(found, directory, settings.authority, keys, SystemEntropy())
    finally:
        keys.close()
    told = {"made_at": moment(found.made_at), "cas": list(restored)}
    record(settings, "restored", told, at)
    output.tell(
        told,
        f"restored {len(found.files)} files of {told['made_at']} into {directory}; "
        "now run: verifier ca status",
        as_json=as_json,
    )
