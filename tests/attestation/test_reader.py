from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import LimitExceeded, MalformedInput
from attestation.reader import LE_U32, Reader, Struct, pack
from attestation.refusals import RefusalCode


def test_numbers_are_read_big_endian_in_order() -> None:
    reader = Reader(bytes(range(1, 16)), "Sample")
    assert reader.u8() == 0x01
    assert reader.u16() == 0x0203
    assert reader.u32() == 0x04050607
    assert reader.u64() == 0x08090A0B0C0D0E0F
    reader.end()


def test_a_layout_may_be_little_endian() -> None:
    assert Reader(b"\x01\x00\x00\x00", "Sample").unpack(LE_U32) == (1,)


@given(st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.binary(max_size=40))
def test_what_is_packed_is_read_back(small: int, large: int, content: bytes) -> None:
    raw = pack(">BIH", small, large, len(content)) + content
    reader = Reader(raw, "Sample")
    assert reader.unpack(Struct(">BI")) == (small, large)
    assert reader.sized() == content
    reader.end()


@given(st.binary(max_size=40), st.integers(min_value=0, max_value=60))
def test_nothing_is_read_past_the_end(content: bytes, count: int) -> None:
    reader = Reader(content, "Sample")
    if count <= len(content):
        assert reader.take(count) == content[:count]
        assert reader.remaining == len(content) - count
        return
    with pytest.raises(MalformedInput) as caught:
        reader.take(count, "payload")
    assert caught.value.code is RefusalCode.TRUNCATED
    assert reader.offset == 0


def test_a_negative_count_is_refused() -> None:
    reader = Reader(b"abc", "Sample")
    reader.take(2)
    with pytest.raises(MalformedInput):
        reader.take(-1)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_number_cut_short_is_refused_with_its_place(size: int) -> None:
    reader = Reader(b"\xff" + bytes(size - 1), "Sample")
    reader.u8()
    read = {1: reader.u8, 2: reader.u16, 4: reader.u32, 8: reader.u64}[size]
    with pytest.raises(MalformedInput) as caught:
        read("counter")
    assert caught.value.structure == "Sample"
    assert caught.value.offset == 1
    assert "counter" in caught.value.reason


def test_a_sized_buffer_above_its_limit_is_refused_before_it_is_taken() -> None:
    reader = Reader(struct.pack(">H", 33), "Sample")
    with pytest.raises(LimitExceeded) as caught:
        reader.sized("digest", limit=32)
    assert caught.value.code is RefusalCode.TOO_LARGE


def test_a_sized_buffer_at_its_limit_is_taken() -> None:
    assert Reader(b"\x00\x02ab", "Sample").sized(limit=2) == b"ab"


def test_a_sized_buffer_longer_than_the_rest_is_refused() -> None:
    with pytest.raises(MalformedInput) as caught:
        Reader(b"\x00\x03ab", "Sample").sized()
    assert caught.value.code is RefusalCode.TRUNCATED


RECORD = Struct(">BH")


def test_records_are_read_as_far_as_they_fit() -> None:
    reader = Reader(b"\x01\x00\x02ab\x02\x00\x00\x03\x00\x02c", "Sample")

    assert list(reader.records(RECORD)) == [((1, 2), b"ab"), ((2, 0), b"")]
    assert reader.offset == 8, "behind the last record that fits"
    assert reader.rest() == b"\x03\x00\x02c"


@pytest.mark.parametrize("content", [b"", b"\x01\x00", b"\x01\x00\x01", b"\x01\xff\xff" + bytes(9)])
def test_a_record_that_does_not_fit_is_left_where_it_is(content: bytes) -> None:
    reader = Reader(content, "Sample")

    assert list(reader.records(RECORD)) == []
    assert reader.offset == 0


def test_the_rest_is_everything_not_yet_read() -> None:
    reader = Reader(b"abcd", "Sample")
    reader.u8()
    assert reader.rest() == b"bcd"
    assert reader.rest() == b""


def test_bytes_after_the_end_are_refused() -> None:
    reader = Reader(b"ab", "Sample")
    reader.u8()
    with pytest.raises(MalformedInput) as caught:
        reader.end()
    assert caught.value.code is RefusalCode.TRAILING_BYTES
    assert "1 bytes" in caught.value.reason


def test_a_wrong_value_names_what_was_seen_and_wanted() -> None:
    error = Reader(b"", "Sample").wrong("flag", 7, "0 or 1")
    assert error.code is RefusalCode.VALUE_OUT_OF_RANGE
    assert error.describe() == ("value-out-of-range: Sample at byte 0: flag is 7, wanted 0 or 1")
