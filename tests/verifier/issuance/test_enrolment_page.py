"""The policies in docs/enrolment.md are right, and the page names every key."""

from __future__ import annotations

import re

import pytest

from tools.tracked import ROOT
from verifier.issuance import enrolment_policy_file as keys
from verifier.issuance.enrolment_policy import ProofKind
from verifier.issuance.enrolment_policy_file import load_enrolment_policy
from verifier.issuance.initial_trust import TrustName

PAGE = (ROOT / "docs" / "enrolment.md").read_text()
POLICIES = [
    block
    for block in re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    if "[[device]]" in block
]


@pytest.mark.parametrize("text", POLICIES, ids=["works", "racks", "clouds"])
def test_policy_of_the_page_is_read(text: str, request: pytest.FixtureRequest) -> None:
    assert load_enrolment_policy(text, "docs/enrolment.md").id in request.node.name


@pytest.mark.parametrize(
    "words",
    [
        keys._TOP,
        keys._DEVICE,
        keys._DEVICE_MATCH,
        keys._AGENT,
        keys._AGENT_MATCH,
        keys._EK,
        keys._AWS,
        keys._AZURE,
        tuple(ProofKind),
        tuple(TrustName),
    ],
)
def test_page_names_every_word(words: tuple[str, ...]) -> None:
    for word in words:
        assert re.search(rf"[`\[. ]{word}[`\]. ]", PAGE), word
