"""Whose results count, for whom, and until when (RFC 9334, 5.1), without a wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import AttestationError
from attestation.identity import KeyName, device_id
from attestation.result import AttestationResult, Claim, Finding, TrustTier, worst_vector
from attestation.wire.ear import EarProfile, VerifierIdentity, encode_ear
from device_agent.ports import KeyRole
from tests.simulators.soft_device import soft_key
from verifier.appraisal.enrolment import Enrolment
from verifier.issuance.passport import ResultSigners, ShownResult, read_result, require_standing
from verifier.keys.jwk import public_jwk, thumbprint

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
DEVICE = device_id("dev-1")
KEYS = {one.name: one for one in (soft_key("p256", KeyRole.IAK) for _ in range(2))}
AK, OTHER_AK = KEYS
OURS, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def result(
    key: ec.EllipticCurvePrivateKey,
    *,
    ak_name: KeyName | None = AK,
    profile: EarProfile = EarProfile.DRAFT_03,
    kid: str = "",
    value: int = 2,
) -> str:
    finding = Finding(code="ok", claim=Claim.HARDWARE, value=value, reason="as known", step=5)
    claims = encode_ear(
        AttestationResult(
            device=DEVICE,
            vector=worst_vector((finding,)),
            findings=(finding,),
            steps=(),
            policy_id="p1",
            at=AT,
            evidence_digest=bytes(32),
        ),
        verifier=VerifierIdentity(developer="d", build="b"),
        issued_at=AT,
        expires_at=AT + timedelta(minutes=5),
        profile=profile,
        ak_name=ak_name,
    )
    headers = {"kid": kid or thumbprint(key.public_key())}
    return jwt.encode(claims, key, algorithm="ES256", headers=headers)


def signers(**others: ec.EllipticCurvePrivateKey) -> ResultSigners:
    """We, and the other verifier; ``others`` by the ``kid`` that they claim."""
    named = others or {thumbprint(THEIRS.public_key()): THEIRS}
    return ResultSigners(
        ours={"keys": [public_jwk(OURS.public_key())]},
        others={kid: {**public_jwk(key.public_key()), "kid": kid} for kid, key in named.items()},
    )


def shown(token: str, believed: ResultSigners | None = None) -> ShownResult:
    return read_result(token, believed or signers(), DEVICE, AK, AT)


def refusal(token: str, believed: ResultSigners | None = None) -> tuple[str, str]:
    with pytest.raises(AttestationError) as caught:
        shown(token, believed)
    return caught.value.code.value, caught.value.reason


def enrolled(ak_name: KeyName = AK) -> Enrolment:
    return Enrolment(
        device=DEVICE,
        ak_public=KEYS[ak_name].public_area,
        ak_name=ak_name,
        anchor_sha256=bytes(32),
        endorsed_from=AT,
        endorsed_until=AT + timedelta(days=1),
    )


@pytest.mark.parametrize("profile", EarProfile)
def test_other_verifiers_result_is_believed_in_every_dialect(profile: EarProfile) -> None:
    accepted = shown(result(THEIRS, profile=profile))

    assert not accepted.is_ours
    assert accepted.ear.profile is profile


@pytest.mark.parametrize("profile", EarProfile)
def test_key_of_a_result_is_held_to_in_every_dialect(profile: EarProfile) -> None:
    for key in (OURS, THEIRS):
        code, reason = refusal(result(key, profile=profile, ak_name=OTHER_AK))

        assert code == "result-not-acceptable"
        assert "another attestation key" in reason


def test_result_of_ours_from_before_keys_were_named_is_believed() -> None:
    """It counts for the device that the store knows, and for no other."""
    accepted = shown(result(OURS, ak_name=None))

    assert accepted.is_ours
    require_standing(accepted, AK, enrolled(), (TrustTier.AFFIRMING, AT))
    with pytest.raises(AttestationError, match="was appraised here"):
        require_standing(accepted, AK, enrolled(OTHER_AK), (TrustTier.AFFIRMING, AT))
    with pytest.raises(AttestationError, match="was appraised here"):
        require_standing(accepted, AK, None, None)


def test_other_verifiers_result_that_names_no_key_is_refused() -> None:
    code, reason = refusal(result(THEIRS, ak_name=None))

    assert code == "result-not-acceptable"
    assert "cnf.kid" in reason


def test_key_of_ours_is_ours_whoever_else_claims_its_kid() -> None:
    ours = thumbprint(OURS.public_key())
    confused = signers(**{ours: THEIRS})

    assert refusal(result(THEIRS, kid=ours), confused)[0] == "result-signature-invalid"
    assert shown(result(OURS), confused).is_ours


def test_other_verifiers_signature_under_our_kid_is_refused() -> None:
    ours, theirs = (thumbprint(key.public_key()) for key in (OURS, THEIRS))

    assert refusal(result(THEIRS, kid=ours))[0] == "result-signature-invalid"
    assert refusal(result(OURS, kid=theirs))[0] == "result-signature-invalid"


def test_without_other_verifiers_only_ours_count() -> None:
    alone = ResultSigners(ours=signers().ours)

    assert refusal(result(THEIRS), alone)[0] == "result-signature-invalid"
    assert shown(result(OURS), alone).is_ours


@pytest.mark.parametrize("value", [0, 32, 96])
def test_anything_but_affirming_is_refused(value: int) -> None:
    for key in (OURS, THEIRS):
        assert refusal(result(key, value=value))[0] == "result-not-acceptable"


def test_other_verifiers_result_stands_for_a_device_never_seen() -> None:
    require_standing(shown(result(THEIRS)), AK, None, None)


@pytest.mark.parametrize("status", [TrustTier.NONE, TrustTier.WARNING, TrustTier.CONTRAINDICATED])
def test_other_verifiers_result_does_not_stand_against_what_we_found_since(
    status: TrustTier,
) -> None:
    accepted = shown(result(THEIRS))
    earlier, same = AT - timedelta(seconds=1), AT

    require_standing(accepted, AK, enrolled(), (status, earlier))
    require_standing(accepted, AK, enrolled(), (TrustTier.AFFIRMING, same))
    with pytest.raises(AttestationError, match=f"newest result is {status.label}"):
        require_standing(accepted, AK, enrolled(), (status, same))


@pytest.mark.parametrize("status", [None, TrustTier.WARNING, TrustTier.CONTRAINDICATED])
def test_result_of_ours_stands_only_as_the_newest(status: TrustTier | None) -> None:
    newest = (status, AT - timedelta(hours=1)) if status is not None else None

    with pytest.raises(AttestationError, match="newest result is"):
        require_standing(shown(result(OURS)), AK, enrolled(), newest)
