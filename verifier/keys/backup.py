"""Backup of a key directory, under a passphrase of its own, and its restoration elsewhere.

Everything of the directory but the root's folder: register, certificates, key files, result and
nonce keys, service CA, TLS. Keys in tokens are not in it: a token is backed up by its maker's
means. The passphrase of the key files goes along, so that a backup needs nothing but its own; on
restoration the keys are sealed anew under the one that the settings name there.

Format: magic, salt (16), nonce (12), then AES-256-GCM (NIST SP 800-38D) over JSON; the key is
scrypt's (RFC 7914). What was changed or cut does not decrypt.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused, SettingsInvalid
from verifier.keys.ca_keys import PASSPHRASE_FILE, CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.files import make_directory, write_public, write_secret
from verifier.keys.offline_root import OFFLINE_ROOT
from verifier.keys.register import KeyKind, load_register, register_path
from verifier.keys.sealed_key import is_sealed
from verifier.ports import Entropy
from verifier.settings import AuthoritySettings

MAX_BACKUP_BYTES: Final = 16 * 1024 * 1024
MAX_FILES: Final = 1000
_MAGIC: Final = b"verifier key backup 1\n"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_SCRYPT_N: Final = 2**15
_PUBLIC: Final = (".cert.pem", ".root.pem", "device-authorities.pem")
_MAX_DEPTH: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds.

    Attributes:
        made_at: When it was made.
        files: Contents by path below the key directory.
        passphrase: Of the key files in it; empty if they have none.
    """

    made_at: datetime
    files: Mapping[str, bytes]
    passphrase: bytes


def take_backup(directory: Path, keys: CaKeys, at: datetime) -> Backup:
    """Read a key directory.

    Raises:
        SettingsInvalid: If there is no authority in it, or it is larger than any key directory.
        Unavailable: If the passphrase of its key files cannot be read, or does not open them.
    """
    register = load_register(directory)
    if not register.entries:
        raise SettingsInvalid(f"there is no authority in {directory}; run: verifier init")
    places = [one.key for one in register.entries if one.key.kind is KeyKind.FILE]
    sealed = [place for place in places if is_sealed(directory / place.name)]
    for place in places:
        keys.open(place)
    files = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        skipped = OFFLINE_ROOT in name.parts or name.name.startswith(".")
        if path.is_file() and not skipped and str(name) != PASSPHRASE_FILE:
            files[name.as_posix()] = path.read_bytes()
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BACKUP_BYTES // 2:
        raise SettingsInvalid(f"{directory} holds more than keys: move the rest away")
    passphrase = keys.passphrase_source().read() if sealed else b""
    return Backup(made_at=at, files=files, passphrase=passphrase)


def seal_backup(backup: Backup, passphrase: bytes, entropy: Entropy) -> bytes:
    """Return a backup as the bytes of its file."""
    document = {
        "made_at": backup.made_at.isoformat(),
        "passphrase": base64.b64encode(backup.passphrase).decode(),
        "files": {
            name: base64.b64encode(content).decode() for name, content in backup.files.items()
        },
    }
    salt, nonce = entropy.take(_SALT_BYTES), entropy.take(_NONCE_BYTES)
    head = _MAGIC + salt + nonce
    sealed = AESGCM(_derived(passphrase, salt)).encrypt(nonce, json.dumps(document).encode(), head)
    return head + sealed


def open_backup(content: bytes, passphrase: bytes) -> Backup:
    """Read a backup's file; all of it is checked before anything is returned.

    Raises:
        RequestRefused: ``ca-backup-unreadable`` if it is none, ``ca-passphrase-wrong`` if it does
            not decrypt: another passphrase, or changed bytes.
    """
    start = len(_MAGIC) + _SALT_BYTES + _NONCE_BYTES
    if not content.startswith(_MAGIC) or not start < len(content) <= MAX_BACKUP_BYTES:
        raise _unreadable("it does not begin as one, or has no size of one")
    salt, nonce = content[len(_MAGIC) :][:_SALT_BYTES], content[start - _NONCE_BYTES : start]
    try:
        plain = AESGCM(_derived(passphrase, salt)).decrypt(nonce, content[start:], content[:start])
    except InvalidTag as error:
        raise RequestRefused(
            RefusalCode.CA_PASSPHRASE_WRONG,
            "the backup does not open: another passphrase, or a damaged file",
        ) from error
    try:
        return _parsed(json.loads(plain))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(str(error)[:80]) from error


def restore_backup(
    backup: Backup,
    directory: Path,
    settings: AuthoritySettings,
    keys: CaKeys,
    entropy: Entropy,
) -> tuple[str, ...]:
    """Write a backup into a directory that has no authority; returns the ids of its issuing CAs.

    The register is written last: what a crash leaves is no authority, and may be restored again.

    Raises:
        SettingsInvalid: If an authority is there already.
        Unavailable: If a file cannot be written, or the new passphrase cannot be read.
    """
    if register_path(directory) is not None:
        raise SettingsInvalid(f"there is an authority in {directory} already; move it away first")
    make_directory(directory)
    last = ("authority.json", "device-ca.cert.pem")
    for name, content in sorted(backup.files.items(), key=lambda one: one[0] in last):
        path = directory / name
        make_directory(path.parent)
        write = write_public if name.endswith(_PUBLIC) else write_secret
        write(path, content)
    if backup.passphrase:
        Ceremony(directory, settings, keys, entropy).encrypt(backup.passphrase)
    return tuple(entry.id for entry in load_register(directory).entries)


def _derived(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=_KEY_BYTES, n=_SCRYPT_N, r=8, p=1).derive(passphrase)


def _parsed(document: Mapping[str, Any]) -> Backup:
    files = {}
    for name, content in document["files"].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not 0 < len(path.parts) <= _MAX_DEPTH:
            raise ValueError(f"{name!r} leads out of the key directory")
        files[name] = base64.b64decode(content, validate=True)
    if len(files) > MAX_FILES:
        raise ValueError("too many files")
    return Backup(
        made_at=datetime.fromisoformat(document["made_at"]),
        files=files,
        passphrase=base64.b64decode(document["passphrase"], validate=True),
    )


def _unreadable(why: str) -> RequestRefused:
    return RequestRefused(
        RefusalCode.CA_BACKUP_UNREADABLE, f"the file is no backup of verifier ca backup: {why}"
    )
