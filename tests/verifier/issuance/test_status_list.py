"""Status lists: read back bit by bit, as draft-ietf-oauth-status-list says."""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from verifier.issuance.status_list import LIST_SIZE, TTL, bounds, place, status_claims

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = "http://pki.example/pki/v1/status/1"


def bits(claims: dict[str, object]) -> set[int]:
    told = claims["status_list"]
    assert isinstance(told, dict)
    assert told["bits"] == 1
    text = told["lst"]
    octets = zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert len(octets) * 8 == LIST_SIZE
    return {index for index in range(LIST_SIZE) if octets[index // 8] >> index % 8 & 1}


def test_bits_are_those_of_the_revoked_numbers() -> None:
    revoked = (LIST_SIZE, LIST_SIZE + 9, 2 * LIST_SIZE - 1)

    claims = status_claims(1, revoked, url=URL, at=NOW, lifetime=timedelta(minutes=5))

    assert bits(claims) == {place(number)[1] for number in revoked} == {0, 9, LIST_SIZE - 1}
    assert (claims["sub"], claims["ttl"]) == (URL, TTL.total_seconds())
    assert claims["iat"] == NOW.timestamp()
    assert claims["exp"] == NOW.timestamp() + 300


def test_example_of_the_draft_is_packed_in_the_same_order() -> None:
    """Section 4.1: statuses 1 0 0 1 1 1 0 1 and 1 1 0 0 0 1 0 1 are the bytes 0xB9 0xA3."""
    statuses = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    revoked = [number for number, status in enumerate(statuses) if status]

    claims = status_claims(0, revoked, url=URL, at=NOW, lifetime=timedelta(minutes=5))

    told = claims["status_list"]
    assert isinstance(told, dict)
    packed = zlib.decompress(base64.urlsafe_b64decode(told["lst"] + "=="))
    assert packed[:3] == b"\xb9\xa3\x00"


def test_url_names_a_range_for_good() -> None:
    assert place(0) == (0, 0)
    assert place(LIST_SIZE - 1) == (0, LIST_SIZE - 1)
    assert place(LIST_SIZE) == (1, 0)
    assert bounds(1) == (LIST_SIZE, 2 * LIST_SIZE - 1)


def test_number_of_another_list_is_refused() -> None:
    with pytest.raises(ValueError, match="another list"):
        status_claims(0, [LIST_SIZE], url=URL, at=NOW, lifetime=timedelta(minutes=5))
