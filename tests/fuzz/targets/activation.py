"""Credential activation: a stranger's request, and the files between a line and a device."""

from __future__ import annotations

from collections.abc import Callable

from attestation.errors import AttestationError
from attestation.wire.enrolment_codec import decode_activation
from attestation.wire.manufacture_codec import decode_answer, decode_challenge

_READERS: tuple[Callable[[bytes], object], ...] = (
    decode_activation,
    decode_challenge,
    decode_answer,
)


def run(data: bytes) -> None:
    """Read hostile bytes as each."""
    for read in _READERS:
        try:
            read(data)
        except AttestationError:
            continue
