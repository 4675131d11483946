"""Secure Boot databases are remembered by a digest, never SHA-1: another byte is another one."""

from __future__ import annotations

import hashlib

import pytest

from attestation.boot import secure_boot
from attestation.boot.secure_boot import signature_database
from attestation.errors import InputError
from attestation.uefi.guid import IMAGE_SECURITY_DATABASE
from tests.simulators.boot import CONFIG, boot, event, facts_of
from tests.simulators.firmware_log import SHA1, SHA256
from tests.simulators.uefi import hash_list, variable


def image(number: int) -> bytes:
    return number.to_bytes(32)


def test_every_changed_byte_is_read_anew() -> None:
    good = hash_list(image(1), image(2))
    known = signature_database(good)
    for place in range(len(good)):
        changed = good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :]
        try:
            found = signature_database(changed)
        except InputError:
            continue
        assert found.digest == hashlib.sha256(changed).digest()
        assert found is not known
    assert signature_database(good) == known
    assert known.hashes == {image(1), image(2)}


def test_a_longer_list_is_not_the_shorter_one() -> None:
    for count in (1, 2, 3, 2, 1):
        hashes = [image(number) for number in range(count)]
        assert signature_database(hash_list(*hashes)).hashes == set(hashes)


def test_what_cannot_be_read_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(InputError):
            signature_database(b"no list")


def test_the_memory_is_bounded() -> None:
    for number in range(200):
        signature_database(hash_list(image(number)))
        assert len(secure_boot._DATABASES_KEPT) <= 64
    large = hash_list(*(image(number) for number in range(2_000)))
    signature_database(large)
    assert hashlib.sha256(large).digest() not in secure_boot._DATABASES_KEPT


def test_what_is_remembered_cannot_be_changed() -> None:
    found = signature_database(hash_list(image(1)))
    with pytest.raises(TypeError):
        found.certificates[b""] = ""  # type: ignore[index]


def test_a_database_is_not_known_by_its_sha1() -> None:
    measured = variable("dbx", hash_list(image(7)), IMAGE_SECURITY_DATABASE)
    other = hash_list(image(8))
    for bank in (SHA1, SHA256):
        signature_database(other, bank.digest(measured))  # as after a collision
        facts = facts_of(boot(keys=event(7, CONFIG, measured)), bank)
        trusted = bank is SHA256
        assert (facts.databases["dbx"].value.hashes == {image(8)}) is trusted
        assert (facts.databases["dbx"].value.hashes == {image(7)}) is not trusted
    secure_boot._DATABASES_KEPT.clear()


def test_a_database_known_by_its_digest_tells_the_digest_of_its_data() -> None:
    data = hash_list(image(9))
    for _ in range(2):
        found = signature_database(data, b"proven digest of variable and data")
        assert found.digest == hashlib.sha256(data).digest()
