"""Properties of CoRIM: any bytes give a value or one of our errors, and nothing signed is bent."""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import AttestationError, InputError
from attestation.wire.corim import Corim, SignedCorim, open_corim, read_payload
from attestation.wire.cose import verify_sign1
from tests.simulators.corim_press import comid, corim, registers, signed, triple

KEY = ec.generate_private_key(ec.SECP256R1())
UNSIGNED, SIGNED = corim(), signed(KEY)


def opened(raw: bytes) -> None:
    found = open_corim(raw)
    if isinstance(found, SignedCorim):
        read_payload(found.message)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xd2", b"\xd9\x01\xf5", b"\xd2\x84"]))
def test_any_bytes_are_a_corim_or_refused_in_words(tail: bytes, head: bytes) -> None:
    with contextlib.suppress(InputError):
        opened(head + tail)


@settings(max_examples=400)
@given(
    st.sampled_from([UNSIGNED, SIGNED]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 10_000),
)
def test_bent_corim_is_read_or_refused_in_words(
    raw: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    bent = bytearray(raw)
    for at, value in changes:
        bent[at % len(bent)] = value
    with contextlib.suppress(InputError):
        opened(bytes(bent[: cut % (len(bent) * 2)]))


@settings(max_examples=200)
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_signed_corim_is_believed(at: int, flip: int) -> None:
    bent = bytearray(SIGNED)
    bent[at] ^= flip
    try:
        found = open_corim(bytes(bent))
        if isinstance(found, Corim):
            return  # it says itself that nobody signed it
        verify_sign1(found.message, KEY.public_key())
    except AttestationError:
        return
    raise AssertionError(f"byte {at} may be changed")


@given(
    st.dictionaries(st.integers(0, 23), st.binary(min_size=32, max_size=32), min_size=1),
    st.integers(0, 2**31 - 1),
)
def test_pcr_values_are_read_as_they_were_written(values: dict[int, bytes], version: int) -> None:
    found = open_corim(corim(comid(triple(registers(dict(values))), version=version)))

    assert isinstance(found, Corim)
    (read,) = found.comids[0].values
    ((_, pcrs),) = read.pcrs.items()
    assert pcrs == {index: {value} for index, value in values.items()}
    assert found.comids[0].version == version
