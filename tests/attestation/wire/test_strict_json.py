"""Strict JSON: one reading only."""

from __future__ import annotations

import pytest

from attestation.wire.strict_json import parse_json


def test_a_document_is_read_as_written() -> None:
    assert parse_json('{"a": ["é", 1, null]}'.encode()) == {"a": ["é", 1, None]}


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "not JSON"),
        (b"-Infinity", "not JSON"),
        (rb'{"path": "/opt/\ud800"}', "surrogate"),
        (rb'{"\uDFFF": 1}', "surrogate"),
        (rb'["\udc00\ud800"]', "surrogate"),
        (b"[" * 100_000, "deep"),
        (b'"\xff"', "utf-8"),
        (b"{", "Expecting"),
    ],
)
def test_anything_else_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(document)
