"""A message whose shape is known is cut, not decoded: it must come out as if it were decoded."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.evidence import Evidence, ImaPart, Quote
from attestation.wire import strict_cbor
from attestation.wire.evidence_codec import (
    _decoded_strictly,
    _evidence,
    decode_evidence,
    encode_evidence,
    encode_parts,
)
from attestation.wire.evidence_parts import _QUOTES, read_claims, read_pcr_values, read_quote
from attestation.wire.shapes import KnownShapes, Shape

PCRS = {HashAlgorithm.SHA256: {index: bytes([index]) * 32 for index in range(4)}}
LOG = b"firmware log"


def message(
    nonce: bytes = b"n" * 56,
    attest: bytes = b"a" * 145,
    signature: bytes = b"s" * 72,
    *,
    more: bool = False,
) -> bytes:
    parts = encode_parts(
        PCRS,
        LOG,
        log_digest_only=True,
        claims={"boot-id": "b" * 36, "secure": True},
        ima_list=ImaPart(offset=0, content=b"entries") if more else None,
        agent_log=b"log" if more else None,
    )
    return encode_evidence(nonce, Quote(attest=attest, signature=signature), parts)


def verdict(raw: bytes) -> Evidence | tuple[object, ...]:
    try:
        return decode_evidence(raw)
    except AttestationError as error:
        return type(error), error.describe(), error.offset


def strict_verdict(raw: bytes) -> Evidence | tuple[object, ...]:
    """What a decoder without any memory says."""
    _QUOTES._known.clear()
    try:
        return _evidence(raw, *_decoded_strictly(raw))
    except AttestationError as error:
        return type(error), error.describe(), error.offset


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_every_changed_byte_is_judged_as_without_memory(flip: int, *, more: bool) -> None:
    good = message(more=more)
    for place in range(len(good)):
        raw = good[:place] + bytes((good[place] ^ flip,)) + good[place + 1 :]
        wanted = strict_verdict(raw)
        decode_evidence(good)
        assert verdict(raw) == wanted, place


@given(st.data())
@example(None)
def test_moved_bytes_are_judged_as_without_memory(data: st.DataObject | None) -> None:
    """Another layout of the same length: pieces cut out of a good message and put elsewhere."""
    good = message()
    raw = good
    if data is not None:
        for _ in range(data.draw(st.integers(1, 3))):
            begin, end, to = sorted(data.draw(st.integers(0, len(raw))) for _ in range(3))
            raw = raw[:begin] + raw[end:to] + raw[begin:end] + raw[to:]
    wanted = strict_verdict(raw)
    decode_evidence(good)
    assert verdict(raw) == wanted


@given(st.binary(min_size=56, max_size=56), st.binary(min_size=145, max_size=145))
def test_new_contents_are_never_answered_from_memory(nonce: bytes, attest: bytes) -> None:
    decode_evidence(message())
    raw = message(nonce, attest)
    seen = decode_evidence(raw)
    assert (seen.nonce, seen.quote.attest) == (nonce, attest)
    assert seen.digest == hashlib.sha256(raw).digest()


def test_two_messages_of_one_length_and_other_shapes_take_turns() -> None:
    one, other = message(b"n" * 56, b"a" * 145), message(b"n" * 55, b"a" * 146)
    assert len(one) == len(other)
    for raw in (one, other, one, other):
        assert verdict(raw) == strict_verdict(raw)


def test_a_quote_whose_fields_come_in_another_order_is_not_taken_for_one() -> None:
    usual = strict_cbor.encode({"attest": b"a" * 9, "signature": b"s" * 6})
    turned = b"\xa2" + usual[18:] + usual[1:18]
    assert len(turned) == len(usual)
    for raw in (usual, turned, turned, usual):
        assert read_quote(raw) == Quote(attest=b"a" * 9, signature=b"s" * 6)


def test_remembered_values_cannot_be_changed() -> None:
    evidence = decode_evidence(message())
    with pytest.raises(TypeError):
        evidence.pcr_values[HashAlgorithm.SHA256] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        evidence.pcr_values[HashAlgorithm.SHA256][0] = b""  # type: ignore[index]
    with pytest.raises(TypeError):
        evidence.claims["boot-id"] = ""  # type: ignore[index]


def test_claims_are_remembered_by_their_bytes() -> None:
    facts: tuple[int | bool | str, ...] = (1, True, "b", "c", 1, "b")
    for fact in facts:
        seen = read_claims(strict_cbor.encode({"a": fact}))["a"]
        assert (type(seen), seen) == (type(fact), fact)


def test_pcr_values_are_remembered_by_their_bytes() -> None:
    for value in (b"\x00" * 32, b"\x01" * 32, b"\x00" * 32):
        raw = strict_cbor.encode({11: {0: value}})
        assert read_pcr_values(raw) == {HashAlgorithm.SHA256: {0: value}}


def test_a_memory_of_shapes_is_bounded() -> None:
    known: KnownShapes[int] = KnownShapes(entries=4, longest=10)
    for size in range(12):
        raw = strict_cbor.encode(b"x" * size)
        known.learn(raw, size)
        assert len(known._known) <= 4
    assert known.read(strict_cbor.encode(b"y" * 9)) == (9, (b"y" * 9,))
    assert known.read(strict_cbor.encode(b"y" * 10)) is None


def test_a_shape_knows_its_own_length_only() -> None:
    shape = Shape(strict_cbor.encode([b"one", "two", 3]))
    assert shape.contents(strict_cbor.encode([b"eno", "two", 3])) == (b"eno",)
    assert shape.contents(strict_cbor.encode([b"one", "two", 4])) is None
    assert shape.contents(strict_cbor.encode([b"one", "twa", 3])) is None
    assert shape.contents(strict_cbor.encode([b"one!", "two", 3])) is None
    assert shape.contents(b"") is None
