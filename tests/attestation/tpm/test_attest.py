from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import AttestationError, InputError, MalformedInput, SignatureInvalid
from attestation.refusals import RefusalCode
from attestation.tpm.attest import Attest, _by_fields, parse_attest
from attestation.tpm.constants import TPM_ST_ATTEST_CERTIFY, TPM_ST_ATTEST_QUOTE
from tests.attestation.tpm.structures import (
    ATTESTZ,
    BUNDLES,
    QUOTE_SET,
    attest,
    certified,
    quoted,
    selection,
)

ALL_PCRS = tuple(range(24))
REAL_QUOTES = [
    (BUNDLES / "good-1/quote.attest", ((0x0B, tuple(range(9))),)),
    (BUNDLES / "failed-1/quote.attest", ((0x0B, tuple(range(9))),)),
    (BUNDLES / "latitude-7520/quote.attest", ((0x0B, ALL_PCRS),)),
    (BUNDLES / "IMN-SUPERMICRO-no-epp/quote.attest", ((0x04, ALL_PCRS), (0x0B, ALL_PCRS))),
    (
        BUNDLES / "ludmilla/quote.attest",
        ((0x0B, ALL_PCRS), (0x0C, ALL_PCRS), (0x04, ALL_PCRS)),
    ),
    (QUOTE_SET / "quote.out", ((0x0B, (15, 16, 22)),)),
]


def refusal(raw: bytes) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        parse_attest(raw)
    return caught.value


def test_every_field_of_a_quote_is_read() -> None:
    raw = attest(body=quoted(selection(0x0B, b"\x81\x00\x80"), digest=b"d" * 32))
    seen = parse_attest(raw)
    assert seen.raw == raw
    assert seen.type == TPM_ST_ATTEST_QUOTE
    assert seen.qualified_signer == b"\x00\x0b" + bytes(32)
    assert seen.extra == b"qualifying"
    assert (seen.clock.clock_ms, seen.clock.reset_count, seen.clock.restart_count) == (
        123_456,
        7,
        3,
    )
    assert seen.clock.safe is True
    assert seen.firmware_version == 0x0001000200030004
    assert seen.quote is not None
    assert seen.quote.selections == ((0x0B, (0, 7, 23)),)
    assert seen.quote.pcr_digest == b"d" * 32
    assert seen.certified is None


def test_every_field_of_a_certification_is_read() -> None:
    seen = parse_attest(attest(kind=0x8017, body=certified(b"\x00\x0bname", b"\x00\x0bqualified")))
    assert seen.type == TPM_ST_ATTEST_CERTIFY
    assert seen.quote is None
    assert seen.certified is not None
    assert seen.certified.name == b"\x00\x0bname"
    assert seen.certified.qualified_name == b"\x00\x0bqualified"


@pytest.mark.parametrize(
    ("path", "selections"), REAL_QUOTES, ids=[path.parent.name for path, _ in REAL_QUOTES]
)
def test_real_quotes_are_read(path, selections) -> None:
    seen = parse_attest(path.read_bytes())
    assert seen.quote is not None
    assert seen.quote.selections == selections
    assert len(seen.quote.pcr_digest) == 32


def test_a_real_certification_names_its_key() -> None:
    raw = (ATTESTZ / "challengeResp-iak_certify_info").read_bytes()[2:]
    seen = parse_attest(raw)
    assert seen.certified is not None
    assert seen.certified.name[:2] == b"\x00\x0c"


def test_banks_keep_the_order_of_the_quote_and_unknown_banks_their_number() -> None:
    body = quoted(
        selection(0x27, b"\x01"), selection(0x0B, b""), selection(0x04, b"\x00\x01\x00\x00")
    )
    quote = parse_attest(attest(body=body)).quote
    assert quote is not None
    assert quote.selections == ((0x27, (0,)), (0x0B, ()), (0x04, (8,)))


@given(st.binary(min_size=3, max_size=3))
def test_a_bitmap_selects_the_pcrs_whose_bits_are_set(bitmap: bytes) -> None:
    quote = parse_attest(attest(body=quoted(selection(0x0B, bitmap)))).quote
    number = int.from_bytes(bitmap, "little")
    assert quote is not None
    assert quote.selections[0][1] == tuple(i for i in range(24) if number >> i & 1)


def test_bytes_that_no_tpm_made_are_refused() -> None:
    seen = refusal(attest(magic=0xFF544348))
    assert isinstance(seen, SignatureInvalid)
    assert seen.code is RefusalCode.QUOTE_MAGIC_WRONG


@pytest.mark.parametrize("kind", [0x8014, 0x8015, 0x8016, 0x8019, 0x801A, 0x801C, 0x0000, 0xFFFF])
def test_an_attestation_of_another_type_is_refused(kind: int) -> None:
    seen = refusal(attest(kind=kind))
    assert isinstance(seen, SignatureInvalid)
    assert seen.code is RefusalCode.QUOTE_TYPE_WRONG


@pytest.mark.parametrize("safe", [2, 0x80, 0xFF])
def test_a_safe_flag_that_is_no_flag_is_refused(safe: int) -> None:
    assert refusal(attest(safe=safe)).code is RefusalCode.VALUE_OUT_OF_RANGE


def test_an_unsafe_clock_is_reported_not_refused() -> None:
    assert parse_attest(attest(safe=0)).clock.safe is False


@pytest.mark.parametrize("kind", [0x8017, 0x8018])
def test_bytes_after_the_end_are_refused(kind: int) -> None:
    body = quoted(selection(0x0B, b"\x01")) if kind == 0x8018 else certified(b"\x00\x0bn")
    assert refusal(attest(kind=kind, body=body) + b"\x00").code is RefusalCode.TRAILING_BYTES


def test_a_bank_selected_twice_is_refused() -> None:
    body = quoted(selection(0x0B, b"\x01"), selection(0x04, b"\x01"), selection(0x0B, b"\x02"))
    assert refusal(attest(body=body)).code is RefusalCode.VALUE_OUT_OF_RANGE


def test_a_pcr_above_23_is_refused() -> None:
    body = quoted(selection(0x0B, b"\x00\x00\x00\x01"))
    assert refusal(attest(body=body)).code is RefusalCode.VALUE_OUT_OF_RANGE


def test_a_bitmap_of_five_bytes_is_refused() -> None:
    body = quoted(selection(0x0B, bytes(5)))
    assert refusal(attest(body=body)).code is RefusalCode.VALUE_OUT_OF_RANGE


@pytest.mark.parametrize("count", [9, 0xFFFF, 0xFFFFFFFF])
def test_too_many_banks_are_refused_before_they_are_read(count: int) -> None:
    assert refusal(attest(body=quoted(count=count))).code is RefusalCode.TOO_MANY


@pytest.mark.parametrize(
    "raw",
    [
        attest(signer=bytes(67)),
        attest(extra=bytes(67)),
        attest(body=quoted(digest=bytes(65))),
        attest(kind=0x8017, body=certified(bytes(67))),
        attest(kind=0x8017, body=certified(b"n", bytes(67))),
        attest() + bytes(4096),
    ],
    ids=["signer", "extra", "digest", "name", "qualified name", "whole"],
)
def test_fields_larger_than_any_real_one_are_refused(raw: bytes) -> None:
    assert refusal(raw).code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize(
    "path", [path for path, _ in REAL_QUOTES], ids=lambda path: path.parent.name
)
def test_every_truncation_of_a_real_quote_is_refused_as_malformed(path) -> None:
    raw = path.read_bytes()
    for length in range(len(raw)):
        with pytest.raises(MalformedInput):
            parse_attest(raw[:length])


def test_every_truncation_of_a_certification_is_refused_as_malformed() -> None:
    raw = attest(kind=0x8017, body=certified(b"\x00\x0b" + bytes(32)))
    for length in range(len(raw)):
        with pytest.raises(MalformedInput):
            parse_attest(raw[:length])


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_but_our_errors(noise: bytes) -> None:
    for raw in (noise, attest()[:6] + noise, attest(kind=0x8017)[:6] + noise):
        try:
            parse_attest(raw)
        except (InputError, SignatureInvalid):
            continue


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_a_changed_byte_gives_a_structure_or_one_of_our_errors(place: int, value: int) -> None:
    raw = bytearray((BUNDLES / "ludmilla/quote.attest").read_bytes())
    raw[place % len(raw)] = value
    with contextlib.suppress(AttestationError):
        parse_attest(bytes(raw))


USUAL = attest(extra=b"q" * 32, body=quoted(selection(0x0B, b"\xff\x41\x80"), digest=b"d" * 32))


def verdict(read: Callable[[bytes], Attest], raw: bytes) -> object:
    try:
        return read(raw)
    except AttestationError as error:
        return error.code, error.reason, error.offset


@pytest.mark.parametrize("place", range(len(USUAL)))
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_quote_of_usual_sizes_is_read_as_field_by_field(place: int, flip: int) -> None:
    raw = USUAL[:place] + bytes((USUAL[place] ^ flip,)) + USUAL[place + 1 :]
    assert verdict(parse_attest, raw) == verdict(_by_fields, raw)


def test_the_usual_quote_is_of_usual_size() -> None:
    assert len(USUAL) == 145
    assert verdict(parse_attest, USUAL) == verdict(_by_fields, USUAL)
