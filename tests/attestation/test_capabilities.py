"""Capabilities and locators: one writing for one set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.capabilities import (
    VALIDATION_METHODS,
    beyond,
    canonical,
    require_canonical,
    require_locator,
)
from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import (
    MAX_CAPABILITIES,
    MAX_CAPABILITY_CHARS,
    MAX_LOCATOR_CHARS,
    MAX_VALIDATION_METHODS,
)
from attestation.refusals import RefusalCode

SCOPE_TOKENS = st.text(
    st.sampled_from([chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\']),
    min_size=1,
    max_size=20,
)


@given(st.lists(SCOPE_TOKENS, max_size=30))
def test_any_list_has_one_canonical_form(words: list[str]) -> None:
    found = canonical(words)

    assert set(found) == set(words)
    assert require_canonical(found) == found
    assert canonical(reversed(found)) == found


@pytest.mark.parametrize("words", [("b", "a"), ("a", "a"), ("B", "A"), ("a", "A")])
def test_other_orders_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(MalformedInput) as caught:
        require_canonical(words)
    assert caught.value.code is RefusalCode.CAPABILITY_INVALID


@pytest.mark.parametrize("word", ["", "a b", 'a"', "a\\", "ä", "a\n", "\x7f", "a" * 129])
def test_words_that_are_no_scope_token_are_refused(word: str) -> None:
    """RFC 6749, 3.3."""
    with pytest.raises(InputError):
        require_canonical((word,))
    with pytest.raises(InputError):
        canonical([word])


def test_longest_word_and_longest_list_are_taken_and_no_longer_ones() -> None:
    require_canonical(("a" * MAX_CAPABILITY_CHARS,))
    for limit, kind in (
        (MAX_CAPABILITIES, "capabilities"),
        (MAX_VALIDATION_METHODS, VALIDATION_METHODS),
    ):
        full = tuple(f"w{number:03}" for number in range(limit))
        require_canonical(full, kind=kind)
        with pytest.raises(LimitExceeded):
            require_canonical((*full, "x"), kind=kind)


def test_what_goes_beyond_is_named_in_the_order_asked() -> None:
    assert beyond(("a", "b", "c"), {"a", "b"}, {"b", "c"}) == ("a", "c")
    assert beyond(("a",), {"a"}, {"a", "b"}) == ()
    assert beyond(("a",), ()) == ("a",)
    assert beyond(("a",)) == ()


def test_no_word_stands_for_others() -> None:
    assert beyond(("mail.read", "*"), ("mail.*", "mail")) == ("mail.read", "*")


@pytest.mark.parametrize(
    "text", ["https://a.example/x?y=1#z", "urn:x:y", "spiffe://td/agent", "coaps://[::1]:5684/%20"]
)
def test_absolute_uris_are_taken(text: str) -> None:
    assert require_locator(text) == text


@pytest.mark.parametrize(
    "text", ["", "a/b", "//host", "https:", "HTTP://x", "https://ä", "https://a b", 'x:"', "1x:y"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        require_locator(text)
    assert caught.value.code is RefusalCode.CAPABILITY_INVALID


def test_locator_has_a_limit() -> None:
    require_locator("x:" + "y" * (MAX_LOCATOR_CHARS - 2))
    with pytest.raises(LimitExceeded):
        require_locator("x:" + "y" * (MAX_LOCATOR_CHARS - 1))
