"""Results as values: tiers, vectors, and that the worst wins."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.identity import device_id
from attestation.result import (
    AttestationResult,
    Claim,
    Finding,
    TrustTier,
    TrustVector,
    tier_of,
    worst_vector,
)


def finding(
    value: int, claim: Claim = Claim.HARDWARE, *, code: str = "code", step: int = 1
) -> Finding:
    return Finding(code=code, claim=claim, value=value, reason=f"value {value}", step=step)


def result(*findings: Finding) -> AttestationResult:
    return AttestationResult(
        device=device_id("dev-1"),
        vector=worst_vector(findings),
        findings=findings,
        steps=(),
        policy_id="policy",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        evidence_digest=bytes(32),
        nonce=b"a secret nonce",
    )


@pytest.mark.parametrize(
    ("values", "tier"),
    [
        (range(-1, 2), TrustTier.NONE),
        (range(2, 32), TrustTier.AFFIRMING),
        (range(-32, -1), TrustTier.AFFIRMING),
        (range(32, 96), TrustTier.WARNING),
        (range(-96, -32), TrustTier.WARNING),
        (range(96, 128), TrustTier.CONTRAINDICATED),
        (range(-128, -96), TrustTier.CONTRAINDICATED),
    ],
)
def test_every_value_has_the_tier_of_its_range(values: range, tier: TrustTier) -> None:
    assert {tier_of(value) for value in values} == {tier}


@pytest.mark.parametrize("value", [128, -129, 1 << 40])
def test_a_value_that_is_no_int8_has_no_tier(value: int) -> None:
    with pytest.raises(ValueError, match="int8"):
        tier_of(value)
    with pytest.raises(ValueError, match="int8"):
        TrustVector(hardware=value)


def test_tiers_have_their_numbers_and_words() -> None:
    assert {tier.label: int(tier) for tier in TrustTier} == {
        "none": 0,
        "affirming": 2,
        "warning": 32,
        "contraindicated": 96,
    }


@pytest.mark.parametrize("claim", Claim)
def test_every_claim_decides_the_status_alone(claim: Claim) -> None:
    others = {other.attribute: 2 for other in Claim if other is not claim}

    assert TrustVector(**others).status is TrustTier.AFFIRMING
    assert TrustVector(**others, **{claim.attribute: 32}).status is TrustTier.WARNING
    assert TrustVector(**others, **{claim.attribute: -97}).status is TrustTier.CONTRAINDICATED


def test_an_empty_vector_asserts_nothing() -> None:
    assert TrustVector().status is TrustTier.NONE
    assert TrustVector().as_claims() == {}


@given(st.dictionaries(st.sampled_from([claim.value for claim in Claim]), st.integers(-128, 127)))
def test_a_vector_comes_back_from_its_claims(claims: dict[str, int]) -> None:
    vector = TrustVector.from_claims(claims)

    assert vector.as_claims() == {name: value for name, value in claims.items() if value != 0}
    assert TrustVector.from_claims(vector.as_claims()) == vector
    assert vector.status == max((tier_of(value) for value in claims.values()), default=0)


def test_unknown_claims_are_ignored() -> None:
    assert TrustVector.from_claims({"their-own": 99, "hardware": 2}) == TrustVector(hardware=2)


def test_the_worst_finding_of_a_claim_wins_whatever_the_order() -> None:
    found = [finding(2), finding(97), finding(33), finding(2, Claim.EXECUTABLES)]

    expected = TrustVector(hardware=97, executables=2)
    assert worst_vector(found) == worst_vector(reversed(found)) == expected


def test_among_equals_the_first_finding_wins() -> None:
    assert worst_vector([finding(96), finding(99)]).hardware == 96
    assert worst_vector([finding(99), finding(96)]).hardware == 99


def test_reasons_are_what_is_not_affirming_worst_first_in_step_order() -> None:
    judged = result(
        finding(2, step=1),
        finding(33, code="w1", step=2),
        finding(96, code="c1", step=3),
        finding(0, step=4),
        finding(36, Claim.CONFIGURATION, code="w2", step=5),
        finding(99, Claim.EXECUTABLES, code="c2", step=6),
    )

    assert judged.reasons == ("c1: value 96", "c2: value 99", "w1: value 33", "w2: value 36")
    assert judged.status is TrustTier.CONTRAINDICATED


def test_a_result_does_not_show_its_nonce() -> None:
    assert "a secret nonce" not in repr(result(finding(2)))
