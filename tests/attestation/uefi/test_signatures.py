from __future__ import annotations

import hashlib
import re
import tracemalloc

import pytest

from attestation.errors import InputError
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_SIGNATURE_LISTS
from attestation.reader import pack
from attestation.refusals import RefusalCode
from attestation.uefi.guid import (
    CERT_SHA256,
    CERT_X509,
    IMAGE_SECURITY_DATABASE,
    SHIM_LOCK,
)
from attestation.uefi.signatures import (
    _remembered_subject,
    certificate_subject,
    parse_admission,
    parse_signature_lists,
)
from tests.simulators.uefi import OWNER, certificate_list, hash_list, signature_list

A, B = b"a" * 32, b"b" * 32


def refusal(data: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_signature_lists(data)
    return caught.value


def sized(list_size: int, header_size: int, size: int, body: bytes = b"") -> bytes:
    return pack("<16sIII", CERT_SHA256, list_size, header_size, size) + body


def test_lists_hold_certificates_hashes_and_others() -> None:
    other = signature_list(OWNER, [b"x" * 20, b"y" * 20])
    found = parse_signature_lists(certificate_list(b"der") + hash_list(A, B) + other)
    assert found.certificates == (b"der",)
    assert found.hashes == {A, B}
    assert found.others == 2


def test_empty_variable_and_empty_list_hold_nothing() -> None:
    assert parse_signature_lists(b"").hashes == frozenset()
    assert parse_signature_lists(signature_list(CERT_SHA256, [])).hashes == frozenset()


def test_header_bytes_are_never_taken_for_allowed_hashes() -> None:
    planted = OWNER + B
    found = parse_signature_lists(signature_list(CERT_SHA256, [A], header=planted))
    assert found.hashes == {A}


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"short", "list header"),
        (sized(27, 0, 48), "SignatureListSize"),
        (sized(0, 0, 48), "SignatureListSize"),
        (sized(0xFFFFFFFF, 0, 48), "SignatureListSize"),
        (sized(77, 0, 48, bytes(48)), "SignatureListSize"),
        (sized(76, 0xFFFFFFFF, 48, bytes(48)), "SignatureHeaderSize"),
        (sized(76, 49, 48, bytes(48)), "SignatureHeaderSize"),
        (sized(76, 0, 0xFFFFFFFF, bytes(48)), "SignatureSize .* 17 to 48"),
        (sized(76, 0, 16, bytes(48)), "SignatureSize .* 17 to 48"),
        (sized(76, 0, 0, bytes(48)), "SignatureSize .* 17 to 48"),
        (sized(77, 0, 48, bytes(49)), "SignatureSize .* divides"),
        (sized(76, 0, 24, bytes(48)), "SignatureSize .* 48 for SHA-256"),
        (hash_list(A) + b"x", "list header"),
    ],
)
def test_list_whose_sizes_do_not_fit_is_refused(data: bytes, field: str) -> None:
    error = refusal(data)
    assert re.match(field, error.reason)
    assert error.code in {RefusalCode.TRUNCATED, RefusalCode.VALUE_OUT_OF_RANGE}


def test_huge_sizes_allocate_nothing() -> None:
    tracemalloc.start()
    for data in (sized(0xFFFFFFFF, 0, 0xFFFFFFF0), sized(28, 0xFFFFFFF0, 17)):
        refusal(data)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_too_many_lists_are_refused() -> None:
    assert refusal(signature_list(CERT_SHA256, []) * (MAX_SIGNATURE_LISTS + 1)).code is (
        RefusalCode.TOO_MANY
    )


def test_admission_by_hash_or_by_something_else() -> None:
    assert parse_admission(IMAGE_SECURITY_DATABASE, OWNER + A).value == A
    other = parse_admission(IMAGE_SECURITY_DATABASE, OWNER + b"something")
    assert other.value == hashlib.sha256(OWNER + b"something").digest()
    level = parse_admission(SHIM_LOCK, b"sbat,1,2021030218\n")
    assert level.value == hashlib.sha256(b"sbat,1,2021030218\n").digest()
    assert parse_admission(SHIM_LOCK, b"\1").certificate is None


def test_admission_shorter_than_its_owner_is_refused() -> None:
    with pytest.raises(InputError):
        parse_admission(IMAGE_SECURITY_DATABASE, b"short")


def test_certificates_of_two_lists_keep_their_order() -> None:
    data = signature_list(CERT_X509, [b"one", b"two"]) + certificate_list(b"three")
    assert parse_signature_lists(data).certificates == (b"one", b"two", b"three")


def test_bytes_too_large_for_a_certificate_are_not_remembered() -> None:
    _remembered_subject.cache_clear()
    assert certificate_subject(b"0" * (MAX_CERTIFICATE_BYTES + 1)) is None
    assert _remembered_subject.cache_info().currsize == 0
    assert certificate_subject(b"0" * MAX_CERTIFICATE_BYTES) is None
    assert _remembered_subject.cache_info().currsize == 1
