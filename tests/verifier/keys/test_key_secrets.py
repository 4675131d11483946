"""Key files under passphrases, and where passphrases come from."""

from __future__ import annotations

import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.refusals import RefusalCode
from tests.verifier.keys.authority_site import AT, Keys
from verifier.errors import ServiceError, SettingsInvalid, Unavailable
from verifier.keys.ca_keys import PASSPHRASE_FILE
from verifier.keys.register import CaState, load_register
from verifier.keys.sealed_key import is_sealed, open_sealed, seal
from verifier.keys.secret_source import CREDENTIALS_DIRECTORY, passphrase_file, secret_source
from verifier.settings import AuthoritySettings
from verifier.sources import SystemEntropy

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.made(tmp_path)


def secret(path: Path, content: bytes = PASSPHRASE + b"\n", mode: int = 0o600) -> Path:
    path.touch(0o600)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def sealed(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    return secret(path, seal(key, PASSPHRASE, SystemEntropy()))


def current_key(keys: Keys) -> Path:
    (entry,) = load_register(keys.directory).in_state(CaState.CURRENT)
    return keys.directory / entry.key.name


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_openssl_opens_a_sealed_key_with_its_passphrase_only(
    tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    key = ec.generate_private_key(curve)
    path = sealed(tmp_path / "key.pem", key)
    answers = [
        subprocess.run(
            ["openssl", "pkey", "-in", path, "-passin", f"file:{word}", "-pubout"],
            capture_output=True,
            check=False,
        )
        for word in (secret(tmp_path / "right"), secret(tmp_path / "wrong", b"x" * 20))
    ]

    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert (answers[0].returncode, answers[0].stdout) == (0, public)
    assert answers[1].returncode != 0


def test_key_that_openssl_sealed_is_opened(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    plain = secret(
        tmp_path / "plain",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    path = secret(tmp_path / "sealed", b"")
    subprocess.run(
        [
            *("openssl", "pkcs8", "-topk8", "-scrypt", "-in", plain, "-out", path),
            *("-passout", f"file:{secret(tmp_path / 'word')}"),
        ],
        check=True,
    )

    assert is_sealed(path)
    assert open_sealed(path, PASSPHRASE).private_numbers() == key.private_numbers()


def test_the_same_key_is_sealed_differently_each_time(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    assert seal(key, PASSPHRASE, SystemEntropy()) != seal(key, PASSPHRASE, SystemEntropy())


def test_wrong_passphrase_is_one_clear_line_without_the_passphrase(keys: Keys) -> None:
    secret(keys.directory / PASSPHRASE_FILE, b"this is another passphrase")

    with pytest.raises(Unavailable) as refused:
        keys.authority()

    assert refused.value.code is RefusalCode.CA_PASSPHRASE_WRONG
    assert "another" not in refused.value.reason
    assert "\n" not in refused.value.reason


def test_key_file_that_others_may_read_is_refused(keys: Keys) -> None:
    for mode in (0o644, 0o640, 0o602):
        current_key(keys).chmod(mode)
        with pytest.raises(Unavailable, match="chmod 600") as refused:
            keys.authority()
        assert refused.value.code is RefusalCode.CA_KEY_EXPOSED


def test_passphrase_file_that_others_may_read_is_refused(keys: Keys) -> None:
    (keys.directory / PASSPHRASE_FILE).chmod(0o644)

    with pytest.raises(Unavailable, match="chmod 600") as refused:
        keys.authority()

    assert refused.value.code is RefusalCode.CA_KEY_EXPOSED


@pytest.mark.parametrize("content", [b"", b"too short\n", b"x" * 2000, b"nul\0" * 10])
def test_secret_that_cannot_be_one_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        passphrase_file(secret(tmp_path / "word", content)).read()

    assert refused.value.code is RefusalCode.CA_PASSPHRASE_WRONG


def test_key_file_that_is_gone_or_none_is_refused(keys: Keys, tmp_path: Path) -> None:
    path = current_key(keys)
    good = path.read_bytes()
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for content in (b"no key", other):
        path.write_bytes(content)
        with pytest.raises(Unavailable) as refused:
            keys.authority()
        assert refused.value.code is RefusalCode.KEYS_UNUSABLE
    path.unlink()
    path.symlink_to(secret(tmp_path / "elsewhere", good))
    with pytest.raises(Unavailable) as linked:
        keys.authority()
    assert linked.value.code is RefusalCode.KEYS_UNUSABLE


def test_passphrase_comes_from_a_systemd_credential(keys: Keys, tmp_path: Path) -> None:
    folder, name = tmp_path / "credentials", "authority"
    folder.mkdir()
    (keys.directory / PASSPHRASE_FILE).rename(folder / "authority")
    (folder / "authority").chmod(0o440)  # as systemd grants it: an ACL shows as the group's bits
    keys.settings = AuthoritySettings(passphrase_credential=name)

    with pytest.raises(Unavailable, match="systemd-run") as refused:
        keys.authority()
    assert refused.value.code is RefusalCode.KEYS_UNUSABLE

    keys.environment = {CREDENTIALS_DIRECTORY: str(folder)}
    assert keys.authority().issuer()
    (folder / "authority").chmod(0o444)
    with pytest.raises(Unavailable) as open_to_all:
        keys.authority()
    assert open_to_all.value.code is RefusalCode.CA_KEY_EXPOSED


@pytest.mark.parametrize("name", ["../passwd", "a/b", "..", "a b"])
def test_name_that_leads_out_of_the_credentials_is_refused(name: str) -> None:
    with pytest.raises(SettingsInvalid):
        secret_source(
            "passphrase", credential=name, file=None, environment={CREDENTIALS_DIRECTORY: "/run"}
        )


def test_key_without_passphrase_is_made_only_when_asked_for(keys: Keys) -> None:
    assert is_sealed(current_key(keys))
    keys.settings = replace(keys.settings, unencrypted=True)

    entry = keys.ceremony.rotate(keys.root(), "fleet", AT)

    assert not is_sealed(keys.directory / entry.key.name)
    assert stat.S_IMODE((keys.directory / entry.key.name).stat().st_mode) == 0o600
    keys.settings = AuthoritySettings()
    keys.ceremony.encrypt(None)
    assert is_sealed(keys.directory / entry.key.name)
    assert keys.authority().issuer()


def test_keys_are_put_under_another_passphrase_and_again_after_a_crash(
    keys: Keys, tmp_path: Path
) -> None:
    keys.ceremony.rotate(keys.root(), "fleet", AT)
    old = (keys.directory / PASSPHRASE_FILE).read_bytes().strip()
    keys.settings = AuthoritySettings(passphrase_file=str(secret(tmp_path / "new")))
    first = load_register(keys.directory).entries[0].key
    half = open_sealed(keys.directory / first.name, old)
    secret(keys.directory / first.name, seal(half, PASSPHRASE, SystemEntropy()))

    assert len(keys.ceremony.encrypt(old)) == 2

    assert len(keys.authority().issuers()) == 2
    with pytest.raises(ServiceError):
        open_sealed(current_key(keys), old)


def test_passphrases_that_are_made_are_random_and_for_the_owner_only(
    keys: Keys, tmp_path: Path
) -> None:
    other = Keys(directory=tmp_path / "other", root_folder=tmp_path)
    assert other.ceremony.prepare()
    assert not other.ceremony.prepare()

    made = [one.directory / PASSPHRASE_FILE for one in (keys, other)]

    assert made[0].read_bytes() != made[1].read_bytes()
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_bytes().strip()) == 43
