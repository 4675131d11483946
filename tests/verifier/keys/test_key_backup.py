"""Backup of a key directory and its restoration on another machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attestation.refusals import RefusalCode
from tests.verifier.keys.authority_site import AT, Keys
from verifier.errors import RequestRefused, ServiceError, SettingsInvalid
from verifier.keys import backup as formats
from verifier.keys.backup import open_backup, restore_backup, seal_backup, take_backup
from verifier.keys.ca_keys import PASSPHRASE_FILE
from verifier.keys.files import check_directory
from verifier.keys.offline_root import OFFLINE_ROOT, ROOT_KEY
from verifier.keys.register import CaState, load_register
from verifier.keys.ring import KeyRing
from verifier.keys.setup import initialise
from verifier.settings import AuthoritySettings
from verifier.sources import SystemEntropy

PASSPHRASE = b"the backup's own passphrase"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys.made(tmp_path)
    initialise(made.directory, hostnames=("v.example",), at=AT, entropy=SystemEntropy())
    made.ceremony.rotate(made.root(), "fleet", AT)
    return made


@pytest.fixture
def content(keys: Keys) -> bytes:
    return seal_backup(take_backup(keys.directory, keys.ca_keys, AT), PASSPHRASE, SystemEntropy())


def elsewhere(folder: Path, keys: Keys) -> Keys:
    return replace(keys, directory=folder / "other-host" / "keys", settings=AuthoritySettings())


def restore(content: bytes, to: Keys) -> tuple[str, ...]:
    found = open_backup(content, PASSPHRASE)
    return restore_backup(found, to.directory, to.settings, to.ca_keys, SystemEntropy())


def test_restored_authority_goes_on_under_a_passphrase_of_its_own(
    keys: Keys, content: bytes, tmp_path: Path
) -> None:
    other = elsewhere(tmp_path, keys)

    restored = restore(content, other)

    assert set(restored) == {one.id for one in load_register(keys.directory).entries}
    check_directory(other.directory)
    before, after = keys.authority(), other.authority()
    assert after.issuer().certificate == before.issuer().certificate
    assert after.roots() == before.roots()
    assert len(after.issuers()) == 2
    assert KeyRing(other.directory).entries == KeyRing(keys.directory).entries
    passphrases = [one.directory / PASSPHRASE_FILE for one in (keys, other)]
    assert passphrases[0].read_bytes() != passphrases[1].read_bytes()
    other.ceremony.rotate(keys.root(), "fleet", AT)


def test_backup_holds_nothing_readable_and_no_root_key(keys: Keys, content: bytes) -> None:
    (keys.directory / OFFLINE_ROOT).mkdir(mode=0o700)
    (keys.directory / OFFLINE_ROOT / ROOT_KEY).write_bytes(
        (keys.root_folder / ROOT_KEY).read_bytes()
    )

    taken = take_backup(keys.directory, keys.ca_keys, AT)

    assert not [name for name in taken.files if "root.key" in name]
    assert PASSPHRASE_FILE not in taken.files
    assert b"PRIVATE KEY" not in content
    assert b"keyring.json" not in content


def test_changed_or_cut_backup_is_refused_as_a_whole(
    keys: Keys, content: bytes, tmp_path: Path
) -> None:
    other = elsewhere(tmp_path, keys)
    damaged = [
        content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for at in (30, 45, len(content) - 1)  # salt, nonce, tag
    ]

    for one in (content[:-1], *damaged):
        with pytest.raises(RequestRefused) as refused:
            restore(one, other)
        assert refused.value.code is RefusalCode.CA_PASSPHRASE_WRONG
    for one in (b"", b"verifier key backup 1\n", b"x" + content):
        with pytest.raises(RequestRefused) as refused:
            restore(one, other)
        assert refused.value.code is RefusalCode.CA_BACKUP_UNREADABLE
    assert not other.directory.exists()


def test_backup_does_not_open_with_another_passphrase(content: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        open_backup(content, PASSPHRASE + b"!")

    assert refused.value.code is RefusalCode.CA_PASSPHRASE_WRONG


@pytest.mark.parametrize(
    "plain",
    [
        b"{}",
        b"[]",
        b"no json",
        b'{"made_at": "2026-03-01T00:00:00+00:00", "passphrase": "", "files": {"../x": ""}}',
        b'{"made_at": "2026-03-01T00:00:00+00:00", "passphrase": "", "files": {"/etc/x": ""}}',
        b'{"made_at": "2026-03-01T00:00:00+00:00", "passphrase": "", "files": {"a/b/c": ""}}',
        b'{"made_at": "yesterday", "passphrase": "", "files": {}}',
    ],
)
def test_backup_of_strange_content_is_refused(plain: bytes) -> None:
    salt, nonce = bytes(16), bytes(12)
    head = formats._MAGIC + salt + nonce
    sealed = AESGCM(formats._derived(PASSPHRASE, salt)).encrypt(nonce, plain, head)

    with pytest.raises(RequestRefused) as refused:
        open_backup(head + sealed, PASSPHRASE)

    assert refused.value.code is RefusalCode.CA_BACKUP_UNREADABLE


def test_authority_that_is_there_is_not_overwritten(keys: Keys, content: bytes) -> None:
    with pytest.raises(SettingsInvalid, match="move it away"):
        restore(content, keys)


def test_restoration_that_was_interrupted_may_be_repeated(
    keys: Keys, content: bytes, tmp_path: Path
) -> None:
    other = elsewhere(tmp_path, keys)
    found = open_backup(content, PASSPHRASE)
    half = dict(list(found.files.items())[:3])
    for name, one in half.items():
        (other.directory / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (other.directory / name).write_bytes(one)
    (other.directory / "authority.json").unlink(missing_ok=True)

    restore(content, other)

    assert other.authority().issuer()


def test_key_that_the_passphrase_does_not_open_is_not_backed_up(keys: Keys) -> None:
    (entry, *_) = load_register(keys.directory).in_state(CaState.RETIRED)
    path = keys.directory / entry.key.name
    path.write_bytes(path.read_bytes().replace(b"A", b"B", 5))

    with pytest.raises(ServiceError):
        take_backup(keys.directory, keys.ca_keys, AT)
