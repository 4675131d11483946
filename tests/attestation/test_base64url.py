from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.base64url import base64url, base64url_text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg"),
        (b"fooba", "Zm9vYmE"),
        (b"foobar", "Zm9vYmFy"),
    ],
)
def test_the_vectors_of_rfc_4648_stand_without_padding(content: bytes, text: str) -> None:
    assert base64url_text(content) == text
    assert base64url(content) == text.encode()


def test_the_example_of_rfc_7515_appendix_c_holds() -> None:
    assert base64url_text(bytes([3, 236, 255, 224, 193])) == "A-z_4ME"


@given(st.binary(max_size=200))
def test_what_was_encoded_is_read_back(content: bytes) -> None:
    text = base64url_text(content)
    assert "=" not in text
    assert base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True) == content
