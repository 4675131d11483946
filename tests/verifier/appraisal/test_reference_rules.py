"""What a reference set is worth that nobody reviewed, or that is not in force."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from tests.verifier.appraisal.courtroom import NOW, Courtroom
from verifier.reference_values.model import ReferenceLibrary


@pytest.fixture
def court() -> Courtroom:
    made = Courtroom()
    learnt = replace(made.reference.sets[0], to_review=frozenset({0, 2, 7}))
    made.reference = ReferenceLibrary(sets=(learnt,))
    return made


def test_unreviewed_values_warn_where_the_policy_says_so(court: Courtroom) -> None:
    court.policy = replace(court.policy, unreviewed=32)

    result = court.judge()

    found = [one for one in result.findings if one.code == Code.REFERENCE_NOT_REVIEWED]
    assert [(one.claim.value, one.value, one.rule) for one in found] == [
        ("hardware", 32, "reference.unreviewed"),
        ("configuration", 32, "reference.unreviewed"),
    ]
    assert "PCR 0, 2 (sha256): nobody has reviewed what reference set 'box/1'" in found[0].reason
    assert result.vector.as_claims() == {
        "instance-identity": 2,
        "hardware": 32,
        "configuration": 32,
        "executables": 3,
    }


def test_unreviewed_values_are_taken_where_the_policy_accepts_them(court: Courtroom) -> None:
    court.policy = replace(court.policy, unreviewed=0)

    assert court.judge().status is TrustTier.AFFIRMING


def test_reviewed_values_do_not_warn(court: Courtroom) -> None:
    court.policy = replace(court.policy, unreviewed=32)
    reviewed = replace(court.reference.sets[0], to_review=frozenset())
    court.reference = ReferenceLibrary(sets=(reviewed,))

    assert court.judge().status is TrustTier.AFFIRMING


def test_set_that_is_not_in_force_is_named_and_matches_nothing(court: Courtroom) -> None:
    ended = replace(court.reference.sets[0], valid_until=NOW - timedelta(days=1))
    court.reference = ReferenceLibrary(resting=(ended,))

    result = court.judge()

    assert result.status is TrustTier.CONTRAINDICATED
    assert {one.code for one in result.findings if one.value >= 96} == {Code.REFERENCE_NOT_IN_FORCE}
    assert "in force until 2026-04-30T12:00:00+00:00 only" in result.reasons[0]
