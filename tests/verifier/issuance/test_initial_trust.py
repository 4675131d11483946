"""Initial trust as an expression."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from verifier.issuance.initial_trust import CLOUDS, TrustName, parse_trust

ALL = tuple(TrustName)
SUBSETS = [
    frozenset(one) for one in chain.from_iterable(combinations(ALL, size) for size in range(6))
]


def holding(text: str) -> set[frozenset[TrustName]]:
    expression = parse_trust(text)
    return {held for held in SUBSETS if expression.holds(held)}


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_an_empty_expression_holds_for_nobody(text: str) -> None:
    expression = parse_trust(text)

    assert not any(expression.holds(held) for held in SUBSETS)
    assert expression.names == frozenset()


@pytest.mark.parametrize("name", [name for name in ALL if name not in CLOUDS])
def test_one_name_holds_where_it_is_held(name: TrustName) -> None:
    assert holding(name.value) == {held for held in SUBSETS if name in held}


def test_and_binds_stronger_than_or() -> None:
    mixed = "idevid OR tpm-ek AND aws-iid"

    assert holding(mixed) == holding("idevid OR (tpm-ek AND aws-iid)")
    assert holding(mixed) != holding("(idevid OR tpm-ek) AND idevid")


def test_brackets_and_blanks() -> None:
    wanted = {
        held
        for held in SUBSETS
        if TrustName.AWS_IID in held and not held.isdisjoint({TrustName.IDEVID, TrustName.TPM_EK})
    }

    assert holding("((idevid)OR\n tpm-ek)  AND aws-iid") == wanted


def test_what_it_tells_of_itself_is_its_text_on_one_line() -> None:
    assert parse_trust(" idevid\n  OR   tpm-ek ").text == "idevid OR tpm-ek"


@pytest.mark.parametrize(
    "text",
    [
        "aws-iid",
        "azure-msi",
        "aws-iid AND azure-msi",
        "idevid OR aws-iid",
        "(idevid AND tpm-ek) OR (aws-iid AND azure-msi)",
        "(idevid OR aws-iid) AND (tpm-ek OR azure-msi)",
    ],
)
def test_clouds_alone_are_never_enough(text: str) -> None:
    with pytest.raises(MalformedInput, match="never enough") as caught:
        parse_trust(text)

    assert caught.value.code is RefusalCode.POLICY_INVALID


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("idevid idevid", "follows where the expression has ended"),
        ("idevid AND", "ends where a name was wanted"),
        ("OR idevid", "is none of"),
        ("(idevid", "not closed"),
        ("idevid)", "follows where"),
        ("()", "is none of"),
        ("NOT idevid", "is none of"),
        ("idevid and tpm-ek", "follows where"),
        ("idevid | tpm-ek", "neither name"),
        ("IDEVID", "is none of"),
        ("idevid OR tpm-ekk", "'tpm-ekk' is none of"),
        (" OR ".join(["idevid"] * 200), "more than"),
        ("(" * 200 + "idevid" + ")" * 200, "more than"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason.replace("(", r"\(")) as caught:
        parse_trust(text)

    assert caught.value.code is RefusalCode.POLICY_INVALID
