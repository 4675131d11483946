from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput, Unsupported
from attestation.pcr import PcrSelection, composite_digest, extend, parse_selection

SHA1, SHA256, SHA384 = HashAlgorithm.SHA1, HashAlgorithm.SHA256, HashAlgorithm.SHA384


def test_a_selection_is_read_in_the_order_given() -> None:
    seen = parse_selection("sha384:0+sha256:7,0,1")
    assert seen == (
        PcrSelection(bank=SHA384, indices=(0,)),
        PcrSelection(bank=SHA256, indices=(0, 1, 7)),
    )


@given(
    st.lists(st.sampled_from(list(HashAlgorithm)), min_size=1, max_size=4, unique=True),
    st.sets(st.integers(0, 23), min_size=1),
)
def test_a_selection_written_out_is_read_back(banks, indices) -> None:
    selections = tuple(PcrSelection(bank=bank, indices=tuple(sorted(indices))) for bank in banks)
    assert parse_selection("+".join(item.describe() for item in selections)) == selections


@pytest.mark.parametrize("text", ["", "sha256", "sha256:", "sha256:a", "sha256:24", "sha256:-1"])
def test_a_selection_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((MalformedInput, Unsupported)):
        parse_selection(text)


def test_an_unknown_bank_is_refused() -> None:
    with pytest.raises(Unsupported):
        parse_selection("md5:0")


@pytest.mark.parametrize("indices", [(1, 0), (0, 0), (24,), (-1,)])
def test_indices_out_of_order_or_range_are_refused(indices: tuple[int, ...]) -> None:
    with pytest.raises(MalformedInput):
        PcrSelection(bank=SHA256, indices=indices)


def test_extend_is_the_hash_of_value_and_digest() -> None:
    value = extend(SHA256, bytes(32), b"d" * 32)
    assert value == hashlib.sha256(bytes(32) + b"d" * 32).digest()
    assert extend(SHA1, bytes(20), bytes(20)).hex() == "b80de5d138758541c5f05265ad144ab9fa86d1db"


def test_order_matters_to_extend() -> None:
    one, two = b"1" * 32, b"2" * 32
    forth = extend(SHA256, extend(SHA256, bytes(32), one), two)
    back = extend(SHA256, extend(SHA256, bytes(32), two), one)
    assert forth != back


def test_the_composite_uses_the_schemes_hash_and_the_order_of_selections() -> None:
    values = {SHA1: {0: b"a" * 20}, SHA256: {0: b"b" * 32, 7: b"c" * 32}}
    one = PcrSelection(bank=SHA1, indices=(0,))
    two = PcrSelection(bank=SHA256, indices=(0, 7))
    both = b"a" * 20 + b"b" * 32 + b"c" * 32
    swapped = b"b" * 32 + b"c" * 32 + b"a" * 20
    assert composite_digest(SHA384, [one, two], values) == hashlib.sha384(both).digest()
    assert composite_digest(SHA256, [two, one], values) == hashlib.sha256(swapped).digest()


def test_a_selected_value_that_is_absent_is_a_key_error() -> None:
    selection = PcrSelection(bank=SHA256, indices=(3,))
    with pytest.raises(KeyError):
        composite_digest(SHA256, [selection], {SHA256: {}})
