from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError, LimitExceeded, MalformedInput
from attestation.limits import MAX_IMA_ENTRIES, MAX_IMA_LIST_BYTES
from attestation.logs.ima import parse_ima_list, replay_ima
from attestation.refusals import RefusalCode

DATA = Path(__file__).parents[3] / "data"
H12SSL = DATA / "immune-gmbh_guard-oss" / "bundle" / "h12ssl"
BINARY = (H12SSL / "binary_runtime_measurements").read_bytes()
ASCII = (DATA / "keylime_rust-keylime" / "ascii_runtime_measurements").read_bytes()
BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)


def sha1(content: bytes) -> hashlib._Hash:
    return hashlib.sha1(content, usedforsecurity=False)


def entry(template: bytes, data: bytes, *, pcr: int = 10, digest: bytes | None = None) -> bytes:
    digest = sha1(data).digest() if digest is None else digest
    sizes = (len(template).to_bytes(4, "little"), len(data).to_bytes(4, "little"))
    return pcr.to_bytes(4, "little") + digest + sizes[0] + template + sizes[1] + data


def ng(path: bytes, *, digest: bytes = bytes(32)) -> bytes:
    first = b"sha256:\0" + digest
    second = path + b"\0"
    return b"".join(len(part).to_bytes(4, "little") + part for part in (first, second))


def test_real_list_leads_to_pcr_10_of_the_real_tpm_in_both_banks() -> None:
    expected = json.loads((H12SSL / "eventlog.expected-pcrs.json").read_text())

    measured = parse_ima_list(BINARY)
    pcrs = replay_ima(measured, BANKS, start={}, padded=False)

    assert (measured.count, measured.violations) == (5071, 9)
    assert {bank.label: values[10].hex() for bank, values in pcrs.items()} == {
        bank.label: expected[bank.label]["10"] for bank in BANKS
    }


def test_real_ascii_list_is_read_whole() -> None:
    measured = parse_ima_list(ASCII)

    assert measured.count == len(ASCII.strip().split(b"\n")) == 826


def test_ascii_and_binary_forms_of_one_list_replay_alike() -> None:
    data = ng(b"/usr/bin/with blank")
    line = f"10 {sha1(data).hexdigest()} ima-ng sha256:{'00' * 32} /usr/bin/with blank\n"

    lists = (parse_ima_list(entry(b"ima-ng", data)), parse_ima_list(line.encode()))

    first, second = (replay_ima(one, BANKS, start={}, padded=False) for one in lists)
    assert first == second


@pytest.mark.parametrize("signature", ["", "0302046e"])
def test_signed_entries_are_read_with_and_without_a_signature(signature: str) -> None:
    field = bytes.fromhex(signature)
    data = ng(b"/bin/sh") + len(field).to_bytes(4, "little") + field
    line = f"10 {sha1(data).hexdigest()} ima-sig sha256:{'00' * 32} /bin/sh {signature}\n"

    assert parse_ima_list(line.encode()).entries == parse_ima_list(entry(b"ima-sig", data)).entries


def test_violation_extends_ones() -> None:
    measured = parse_ima_list(entry(b"ima-ng", ng(b"/x"), digest=bytes(20)))

    pcrs = replay_ima(measured, (HashAlgorithm.SHA256,), start={}, padded=False)

    assert measured.violations == 1
    assert pcrs[HashAlgorithm.SHA256][10] == hashlib.sha256(bytes(32) + b"\xff" * 32).digest()


def test_kernels_before_5_8_extend_the_padded_sha1_hash() -> None:
    data = ng(b"/x")

    pcrs = replay_ima(
        parse_ima_list(entry(b"ima-ng", data)), (HashAlgorithm.SHA256,), start={}, padded=True
    )

    padded = sha1(data).digest() + bytes(12)
    assert pcrs[HashAlgorithm.SHA256][10] == hashlib.sha256(bytes(32) + padded).digest()


def test_list_goes_on_from_where_the_firmware_log_ended() -> None:
    start = {HashAlgorithm.SHA1: {11: b"\x01" * 20}}
    data = ng(b"/x")

    pcrs = replay_ima(
        parse_ima_list(entry(b"ima-ng", data, pcr=11)),
        (HashAlgorithm.SHA1,),
        start=start,
        padded=False,
    )

    expected = sha1(b"\x01" * 20 + sha1(data).digest()).digest()
    assert pcrs == {HashAlgorithm.SHA1: {11: expected}}


BAD = {
    "template hash of other data": (
        entry(b"ima-ng", ng(b"/x"), digest=b"\x01" * 20),
        "its template hash is not that",
    ),
    "unknown template": (entry(b"ima-new", ng(b"/x")), "has the template 'ima-new'"),
    "PCR out of range": (entry(b"ima-ng", ng(b"/x"), pcr=24), "its PCR is 24"),
    "name of 3 GB": (bytes(24) + (3_000_000_000).to_bytes(4, "little"), "announces 3000000000"),
    "cut": (entry(b"ima-ng", ng(b"/x"))[:-1], "needs"),
    "ascii without a digest": (b"10 " + b"0" * 40 + b" ima-ng /x\n", "entry 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_list_is_refused_for_its_reason(case: str) -> None:
    content, words = BAD[case]

    with pytest.raises(AttestationError, match=words) as refused:
        parse_ima_list(content)

    assert refused.value.code in {
        RefusalCode.LOG_MALFORMED,
        RefusalCode.IMA_TEMPLATE_MISMATCH,
        RefusalCode.TOO_LARGE,
        RefusalCode.TRUNCATED,
    }


def test_empty_list_is_refused_as_missing() -> None:
    with pytest.raises(MalformedInput, match="begins with boot_aggregate") as refused:
        parse_ima_list(b"")

    assert refused.value.code is RefusalCode.IMA_LIST_MISSING


def test_list_above_the_size_limit_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded) as refused:
        parse_ima_list(bytes(MAX_IMA_LIST_BYTES + 1))

    assert refused.value.code is RefusalCode.TOO_LARGE


def test_list_with_too_many_entries_is_refused() -> None:
    violation = entry(b"ima-ng", b"", digest=bytes(20))

    with pytest.raises(LimitExceeded) as refused:
        parse_ima_list(violation * (MAX_IMA_ENTRIES + 1))

    assert refused.value.code is RefusalCode.TOO_MANY


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_random_bytes_never_raise_anything_but_our_errors(noise: bytes, at: int) -> None:
    for content in (noise, BINARY[:at] + noise, ASCII[:at] + noise):
        try:
            parse_ima_list(content)
        except AttestationError:
            continue
