"""Endorsements that fell after enrolment: N43 (expired, withdrawn, revoked)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from attestation.refusals import RefusalCode as Code
from attestation.result import Claim, TrustTier
from tests.simulators.soft_device import SoftManufacturer
from tests.verifier.appraisal.courtroom import (
    NOW,
    Courtroom,
    assert_nothing_believed,
    assert_refused,
)
from verifier.endorsement.trust_anchors import TrustAnchors


@pytest.fixture
def court() -> Courtroom:
    return Courtroom()


def test_device_of_a_manufacturer_no_longer_trusted_is_refused(court: Courtroom) -> None:
    """N43."""
    court.anchors = TrustAnchors.from_pem(SoftManufacturer("Somebody Else").root_pem)

    result = court.judge()

    assert_refused(result, Code.CERTIFICATE_UNTRUSTED, step=2)
    assert_nothing_believed(result)


def test_device_whose_endorsement_has_ended_is_refused(court: Courtroom) -> None:
    """N43: judged at the moment of appraisal, not of enrolment."""
    court.enrolment = replace(court.enrolment, endorsed_until=NOW - timedelta(seconds=1))

    result = court.judge()

    assert_refused(result, Code.CERTIFICATE_EXPIRED, step=2)
    assert_nothing_believed(result)


def test_device_whose_endorsement_has_not_begun_is_refused(court: Courtroom) -> None:
    court.enrolment = replace(court.enrolment, endorsed_from=NOW + timedelta(seconds=1))

    result = court.judge()

    assert_refused(result, Code.CERTIFICATE_NOT_YET_VALID, step=2)
    assert_nothing_believed(result)


def test_endorsement_holds_to_its_last_second(court: Courtroom) -> None:
    court.enrolment = replace(court.enrolment, endorsed_from=NOW, endorsed_until=NOW)

    assert court.judge().status is TrustTier.AFFIRMING


def test_revoked_device_is_recognised_and_not_trusted(court: Courtroom) -> None:
    """N43."""
    court.enrolment = replace(court.enrolment, revoked=True)

    result = court.judge()

    assert_refused(result, Code.DEVICE_REVOKED, step=2)
    assert result.vector.as_claims() == {Claim.INSTANCE_IDENTITY: 96}
