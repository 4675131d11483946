"""What was read before changes nothing: each message is read with a memory and without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attestation.errors import AttestationError
from attestation.evidence import Evidence
from attestation.wire import evidence_codec, evidence_parts
from tests.conformance.cases import load, octets

_SHAPES = (evidence_codec._MESSAGES, evidence_parts._QUOTES)
_VALUES = (evidence_parts._known_pcr_values, evidence_parts._known_claims)


@contextmanager
def _forgetful() -> Iterator[None]:
    """Read as if nothing had been read before, then remember again."""
    known = [dict(one._known) for one in _SHAPES]
    for shapes in _SHAPES:
        shapes._known.clear()
    for values in _VALUES:
        values.cache_clear()
    try:
        yield
    finally:
        for shapes, before in zip(_SHAPES, known, strict=True):
            shapes._known.clear()
            shapes._known.update(before)  # type: ignore[arg-type]


def _said(data: bytes) -> Evidence | str:
    try:
        return evidence_codec.decode_evidence(data)
    except AttestationError as error:
        return str(error.code)


for _case in load().values():
    if _case.kind == "evidence-sequence":
        _said(octets(_case.input["steps"][0]["evidence"]))


def run(data: bytes) -> None:
    """Read hostile bytes twice."""
    with_memory = _said(data)
    with _forgetful():
        without = _said(data)
    if with_memory != without:
        raise AssertionError(f"{with_memory!r} with a memory, {without!r} without")
