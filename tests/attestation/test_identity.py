from __future__ import annotations

import pytest

from attestation.errors import MalformedInput
from attestation.identity import RESERVED_DEVICE_IDS, device_id
from attestation.refusals import RefusalCode


@pytest.mark.parametrize("text", ["a", "edge-a", "0", "x" * 63, "a--b"])
def test_device_id_of_letters_digits_and_inner_dashes_is_taken(text: str) -> None:
    assert device_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "A", "a/b", "a+", "#", "a b", "x" * 64, "a.b", "a\n", "ä", "$share", "a:b"],
)
def test_device_id_with_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput) as refused:
        device_id(text)

    assert refused.value.code is RefusalCode.DEVICE_ID_INVALID


@pytest.mark.parametrize("text", sorted(RESERVED_DEVICE_IDS))
def test_device_cannot_take_a_name_that_a_broker_gives_rights_to(text: str) -> None:
    """A certificate with CN ``verifier`` would be the verifier for a broker that goes by CN."""
    with pytest.raises(MalformedInput, match="reserved") as refused:
        device_id(text)

    assert refused.value.code is RefusalCode.DEVICE_ID_INVALID
