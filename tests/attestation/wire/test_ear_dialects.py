"""EAR claims in the three living dialects."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from attestation.errors import InputError, MalformedInput, Unsupported
from attestation.identity import KeyName, device_id
from attestation.refusals import RefusalCode
from attestation.result import (
    AttestationResult,
    Claim,
    Finding,
    TrustTier,
    TrustVector,
    worst_vector,
)
from attestation.wire.ear import (
    REASONS_CLAIM,
    EarProfile,
    VerifierIdentity,
    decode_ear,
    encode_ear,
    key_id_text,
    nonce_text,
)

AT = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
VERIFIER = VerifierIdentity(developer="https://example.org", build="1.2.3")
NONCE = bytes(range(56))
FINDINGS = (
    Finding(code="ok", claim=Claim.HARDWARE, value=2, reason="as known", step=5),
    Finding(
        code="reference-mismatch", claim=Claim.EXECUTABLES, value=33, reason="PCR 4 is new", step=5
    ),
)


def result(
    *, findings: tuple[Finding, ...] = FINDINGS, nonce: bytes = NONCE, policy: str = "p1"
) -> AttestationResult:
    return AttestationResult(
        device=device_id("dev-1"),
        vector=worst_vector(findings),
        findings=findings,
        steps=(),
        policy_id=policy,
        at=AT,
        evidence_digest=b"\x05" * 32,
        nonce=nonce,
    )


def claims(profile: EarProfile = EarProfile.DRAFT_03, **changes: object) -> dict[str, object]:
    written = encode_ear(
        result(),
        verifier=VERIFIER,
        issued_at=AT,
        expires_at=AT + timedelta(seconds=300),
        profile=profile,
    )
    written.update(changes)
    return {name: value for name, value in written.items() if value is not None}


def d3(**appraisal: object) -> dict[str, object]:
    """A minimal D3 EAR with its one appraisal changed."""
    submod = {"ear_status": "affirming", **appraisal}
    return {
        "eat_profile": "tag:ietf.org,2026:rats/ear#03",
        "iat": 1_700_000_000,
        "ear_verifier_id": {"developer": "d", "build": "b"},
        "submods": {"s": {name: value for name, value in submod.items() if value is not None}},
    }


def refused(value: dict[str, object]) -> InputError:
    with pytest.raises(InputError) as caught:
        decode_ear(value)
    return caught.value


D1_SAMPLE = {
    "eat_profile": "tag:github.com,2023:veraison/ear",
    "iat": 1666529184.0,
    "ear.verifier-id": {"developer": "https://verifier.example", "build": "v0.0.1"},
    "ear.raw-evidence": "NzQ3MjY5NzM2NTYzNzQK",
    "eat_nonce": "abcdefgh",
    "submods": {
        "BOARD": {
            "ear.status": "contraindicated",
            "ear.trustworthiness-vector": {
                "instance-identity": 2,
                "executables": "96",
                "hardware": -2,
                "x-of-their-own": 3,
            },
            "ear.appraisal-policy-id": "policy://board/1",
            "ear.veraison.policy-claims": {"anything": [1.5, None]},
        }
    },
}
D2_SAMPLE = {
    **D1_SAMPLE,
    "eat_profile": "tag:ietf.org,2025-07:ear",
    "iat": 1752000000,
    "exp": 1752000300,
}
D3_SAMPLE = {
    "eat_profile": "tag:ietf.org,2026:rats/ear#03",
    "iat": 1773187200,
    "exp": 1773187500,
    "ear_verifier_id": {"developer": "https://verifier.example", "build": "v2"},
    "ear_status": "warning",
    "submods": {
        "firmware": {
            "ear_status": "affirming",
            "ear_trustworthiness_vector": {"hardware": 2},
            "ear_appraisal_policy_ids": ["first", "second"],
            "eat_nonce": "AAECAwQFBgc",
        },
        "os": {"ear_status": "warning", "ear_trustworthiness_vector": {"executables": -40}},
    },
    "unheard-of": {"x": 1},
}


@pytest.mark.parametrize("sample", [D1_SAMPLE, D2_SAMPLE])
def test_a_dotted_sample_is_read(sample: dict[str, object]) -> None:
    ear = decode_ear(sample)

    board = ear.submods["BOARD"]
    assert ear.status is board.status is TrustTier.CONTRAINDICATED
    assert board.vector == TrustVector(instance_identity=2, executables=96, hardware=-2)
    assert board.policy_ids == ("policy://board/1",)
    assert board.nonce == "abcdefgh"
    assert board.reasons == ()
    assert ear.verifier == VerifierIdentity(developer="https://verifier.example", build="v0.0.1")


def test_an_integral_float_moment_is_read_as_its_whole_second() -> None:
    assert decode_ear(D1_SAMPLE).issued_at == datetime(2022, 10, 23, 12, 46, 24, tzinfo=UTC)
    assert decode_ear(D1_SAMPLE).expires_at is None


def test_a_draft_03_sample_is_read() -> None:
    ear = decode_ear(D3_SAMPLE)

    assert ear.profile is EarProfile.DRAFT_03
    assert ear.status is TrustTier.WARNING
    assert ear.submods["firmware"].policy_ids == ("first", "second")
    assert ear.submods["firmware"].nonce == nonce_text(bytes(range(8)))
    assert ear.submods["os"].vector == TrustVector(executables=-40)
    assert ear.submods["os"].nonce is None
    assert ear.submods["os"].policy_ids == ()
    assert ear.expires_at == datetime(2026, 3, 11, 0, 5, tzinfo=UTC)


def test_the_alias_of_the_first_dialect_is_accepted() -> None:
    alias = "tag:github.com,2024:confidential-containers/Trustee"

    assert decode_ear({**D1_SAMPLE, "eat_profile": alias}).profile is EarProfile.VERAISON


def test_draft_03_is_written_by_default_and_exactly_so() -> None:
    written = encode_ear(
        result(), verifier=VERIFIER, issued_at=AT, expires_at=AT + timedelta(seconds=300)
    )

    token_id = written.pop("jti")
    assert isinstance(token_id, str)
    assert len(token_id) == 24
    assert written == {
        "eat_profile": "tag:ietf.org,2026:rats/ear#03",
        "iat": 1777636800,
        "exp": 1777637100,
        "sub": "dev-1",
        "ear_verifier_id": {"developer": "https://example.org", "build": "1.2.3"},
        "ear_status": "warning",
        "submods": {
            "dev-1": {
                "ear_status": "warning",
                "ear_trustworthiness_vector": {"executables": 33, "hardware": 2},
                "ear_appraisal_policy_ids": ["p1"],
                "eat_nonce": nonce_text(NONCE),
                "device_attestation_reasons": ["reference-mismatch: PCR 4 is new"],
            }
        },
    }


@pytest.mark.parametrize("profile", [EarProfile.VERAISON, EarProfile.DRAFT_02])
def test_the_dotted_dialects_are_written_exactly_so(profile: EarProfile) -> None:
    written = claims(profile)

    del written["jti"]
    assert written == {
        "eat_profile": profile.value,
        "iat": 1777636800,
        "exp": 1777637100,
        "sub": "dev-1",
        "eat_nonce": nonce_text(NONCE),
        "ear.verifier-id": {"developer": "https://example.org", "build": "1.2.3"},
        "submods": {
            "dev-1": {
                "ear.status": "warning",
                "ear.trustworthiness-vector": {"executables": 33, "hardware": 2},
                "ear.appraisal-policy-id": "p1",
                "device_attestation_reasons": ["reference-mismatch: PCR 4 is new"],
            }
        },
    }


@pytest.mark.parametrize("profile", EarProfile)
def test_a_result_comes_back_as_it_went(profile: EarProfile) -> None:
    ear = decode_ear(claims(profile))

    appraisal = ear.submods["dev-1"]
    assert ear.profile is profile
    assert ear.issued_at == AT.replace(microsecond=0)
    assert ear.expires_at == AT.replace(microsecond=0) + timedelta(seconds=300)
    assert ear.verifier == VERIFIER
    assert ear.subject == "dev-1"
    assert ear.status is appraisal.status is TrustTier.WARNING
    assert appraisal.vector == result().vector
    assert appraisal.policy_ids == ("p1",)
    assert appraisal.nonce == nonce_text(NONCE)
    assert appraisal.reasons == result().reasons


def test_a_token_id_names_one_result_at_one_moment() -> None:
    def token_id(policy: str, at: datetime) -> object:
        later = at + timedelta(seconds=9)
        return encode_ear(result(policy=policy), verifier=VERIFIER, issued_at=at, expires_at=later)[
            "jti"
        ]

    elsewhere = AT.astimezone(timezone(timedelta(hours=2)))
    assert token_id("p1", AT) == token_id("p1", elsewhere)
    assert token_id("p1", AT) != token_id("p2", AT)
    assert token_id("p1", AT) != token_id("p1", AT + timedelta(microseconds=1))


def test_an_unproven_nonce_and_an_empty_vector_are_left_out() -> None:
    written = encode_ear(
        result(findings=(), nonce=b""),
        verifier=VERIFIER,
        issued_at=AT,
        expires_at=AT + timedelta(seconds=1),
    )

    assert written["submods"] == {
        "dev-1": {"ear_status": "none", "ear_appraisal_policy_ids": ["p1"]}
    }
    assert decode_ear(written).status is TrustTier.NONE


@pytest.mark.parametrize(
    ("issued", "expires"),
    [
        (AT, AT),
        (AT, AT - timedelta(seconds=1)),
        (AT.replace(tzinfo=None), AT),
        (AT, AT.replace(tzinfo=None)),
    ],
)
def test_moments_naive_or_out_of_order_are_our_own_fault(
    issued: datetime, expires: datetime
) -> None:
    with pytest.raises(ValueError, match="aware"):
        encode_ear(result(), verifier=VERIFIER, issued_at=issued, expires_at=expires)


@pytest.mark.parametrize("size", [7, 65])
def test_a_nonce_that_no_eat_can_hold_is_our_own_fault(size: int) -> None:
    with pytest.raises(ValueError, match="8 to 64"):
        nonce_text(bytes(size))


@pytest.mark.parametrize("profile", ["tag:ietf.org,2027:rats/ear#04", ""])
def test_an_unknown_profile_is_unsupported(profile: str) -> None:
    error = refused({**d3(), "eat_profile": profile})

    assert isinstance(error, Unsupported)
    assert error.code is RefusalCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("profile", EarProfile)
@pytest.mark.parametrize("status", ["none", "affirming", "warning", "contraindicated"])
def test_a_status_better_than_its_vector_is_refused(profile: EarProfile, status: str) -> None:
    prefix = "ear_" if profile is EarProfile.DRAFT_03 else "ear."
    written = claims(profile, ear_status=None)
    submod = dict(written["submods"]["dev-1"])  # type: ignore[index]
    submod[f"{prefix}status"] = status
    written["submods"] = {"dev-1": submod}

    if status in ("warning", "contraindicated"):
        assert decode_ear(written).status.label == status
    else:
        assert refused(written).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize("status", ["none", "affirming"])
def test_a_global_status_better_than_the_worst_submod_is_refused(status: str) -> None:
    assert refused({**D3_SAMPLE, "ear_status": status}).code is RefusalCode.RESULT_MALFORMED


def test_a_global_status_may_be_worse() -> None:
    assert decode_ear({**D3_SAMPLE, "ear_status": "contraindicated"}).status is (
        TrustTier.CONTRAINDICATED
    )


@pytest.mark.parametrize(
    ("value", "expected"), [(127, 127), (-128, -128), ("-128", -128), ("2", 2), (0, 0)]
)
def test_a_claim_value_is_an_int8_or_its_text(value: object, expected: int) -> None:
    ear = decode_ear(
        d3(ear_status="contraindicated", ear_trustworthiness_vector={"hardware": value})
    )

    assert ear.submods["s"].vector.hardware == expected


@pytest.mark.parametrize(
    "value", [128, -129, 2.0, True, None, "", "two", "1000", "1" * 5000, "+2", " 2", "٢", [2]]
)
@pytest.mark.parametrize("name", ["hardware", "unknown-claim"])
def test_a_claim_value_that_is_no_int8_is_refused(name: str, value: object) -> None:
    error = refused(d3(ear_status="contraindicated", ear_trustworthiness_vector={name: value}))

    assert error.code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("eat_profile", (None, 3)),
        ("iat", (None, "1777636800", 1.5, float("inf"), float("nan"), True, -1, 1 << 60)),
        ("exp", ("later", 1.5, True)),
        ("ear_verifier_id", (None, "v", {"developer": "d"}, {"developer": "d", "build": 1})),
        ("ear_status", ("excellent", 2)),
        ("submods", (None, {}, [], {"s": "affirming"}, {1: {"ear_status": "none"}})),
        ("submods", ({str(number): {"ear_status": "none"} for number in range(65)},)),
        ("sub", (1,)),
        ("jti", (["x"],)),
        ("eat_nonce", ("short", "x" * 89, "not b64url!!", ["abcdefgh"])),
    ],
)
def test_a_malformed_claim_is_refused(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        error = refused(claims(**{name: value}))

        assert isinstance(error, MalformedInput)
        assert error.code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize(
    "appraisal",
    [
        {"ear_status": None},
        {"ear_status": "Affirming"},
        {"ear_status": ["affirming"]},
        {"ear_trustworthiness_vector": [2]},
        {"ear_appraisal_policy_ids": []},
        {"ear_appraisal_policy_ids": "p"},
        {"ear_appraisal_policy_ids": [1]},
        {"eat_nonce": "short"},
        {REASONS_CLAIM: "reason"},
        {REASONS_CLAIM: [1]},
    ],
)
def test_a_malformed_appraisal_is_refused(appraisal: dict[str, object]) -> None:
    assert refused(d3(**appraisal)).code is RefusalCode.RESULT_MALFORMED


def test_dotted_names_do_not_count_in_draft_03() -> None:
    swapped = {"ear.status": "affirming", "ear_status": None}

    assert refused(d3(**swapped)).code is RefusalCode.RESULT_MALFORMED


def test_a_dotted_policy_is_one_text() -> None:
    sample = {
        **D1_SAMPLE,
        "submods": {"s": {"ear.status": "none", "ear.appraisal-policy-id": ["p"]}},
    }

    assert refused(sample).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize("profile", EarProfile)
def test_the_attestation_key_is_named_in_every_dialect(profile: EarProfile) -> None:
    name = KeyName(b"\x00\x0b" + bytes(range(32)))
    written = encode_ear(
        result(),
        verifier=VERIFIER,
        issued_at=AT,
        expires_at=AT + timedelta(seconds=300),
        profile=profile,
        ak_name=name,
    )

    assert written["cnf"] == {"kid": "AAsAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw"}
    assert decode_ear(written).key_id == key_id_text(name)


@pytest.mark.parametrize("profile", EarProfile)
def test_a_result_that_names_no_key_is_read(profile: EarProfile) -> None:
    assert "cnf" not in claims(profile)
    assert decode_ear(claims(profile)).key_id is None


def test_a_key_named_in_another_way_is_passed_over() -> None:
    assert decode_ear(claims(cnf={"jwk": {"kty": "EC"}})).key_id is None


@pytest.mark.parametrize("cnf", ["text", [], {"kid": 7}])
def test_a_confirmation_that_is_no_object_or_names_no_text_is_malformed(cnf: object) -> None:
    assert refused(claims(cnf=cnf)).code is RefusalCode.RESULT_MALFORMED
