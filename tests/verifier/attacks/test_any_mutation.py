"""Whatever is changed in honest evidence, it is an input error or not affirming.

One freedom is CMW's: a record's indicator may name other conceptual messages beside evidence. It
is not bound by the quote and nothing here reads it; the evidence decoded is the very same.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import InputError
from attestation.result import TrustTier
from attestation.wire.evidence_codec import decode_evidence
from tests.verifier.appraisal.courtroom import Courtroom


@cache
def honest() -> tuple[Courtroom, bytes]:
    court = Courtroom()
    message = court.message()
    assert court.judge(decode_evidence(message)).status is TrustTier.AFFIRMING
    return court, message


def is_believed(message: bytes) -> bool:
    """Whether other evidence than the honest one is affirmed."""
    court, original = honest()
    try:
        evidence = decode_evidence(message)
        affirmed = court.judge(evidence).status is TrustTier.AFFIRMING
    except InputError:
        return False
    return affirmed and replace(evidence, digest=b"") != replace(
        decode_evidence(original), digest=b""
    )


@given(st.data())
def test_any_byte_changed_is_never_affirming(data: st.DataObject) -> None:
    _, message = honest()
    place = data.draw(st.integers(0, len(message) - 1))
    change = data.draw(st.integers(1, 255))
    mutated = bytearray(message)
    mutated[place] ^= change

    assert not is_believed(bytes(mutated))


@given(st.data())
def test_any_byte_changed_near_the_quote_is_never_affirming(data: st.DataObject) -> None:
    """The quote, nonce and values are a small part of the message: look there more often."""
    _, message = honest()
    start = message.index(b"\xff\x54\x43\x47")
    place = data.draw(st.integers(start - 200, start + 350))
    mutated = bytearray(message)
    mutated[place] ^= 1 << data.draw(st.integers(0, 7))

    assert not is_believed(bytes(mutated))


@given(st.data())
def test_any_cut_or_insertion_is_never_affirming(data: st.DataObject) -> None:
    _, message = honest()
    start = data.draw(st.integers(0, len(message)))
    stop = data.draw(st.integers(start, min(len(message), start + 64)))
    filling = data.draw(st.binary(max_size=64))
    mutated = message[:start] + filling + message[stop:]

    assert mutated == message or not is_believed(mutated)
