"""Properties of every wire format: what is written is read, what is hostile is refused in words."""

import contextlib
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.evidence import ImaPart, Quote, qualifying_data
from attestation.identity import DeviceId, KeyName
from attestation.result import AttestationResult, Claim, Finding, worst_vector
from attestation.wire import strict_cbor
from attestation.wire.cmw import (
    CmwCollection,
    CmwRecord,
    Indicator,
    decode_collection,
    decode_record,
    encode_collection,
)
from attestation.wire.ear import (
    EarProfile,
    VerifierIdentity,
    decode_ear,
    encode_ear,
    key_id_text,
)
from attestation.wire.enrolment_codec import (
    EnrolmentRequest,
    decode_enrolment,
    encode_enrolment,
)
from attestation.wire.evidence_codec import (
    BoundParts,
    decode_evidence,
    encode_evidence,
    encode_parts,
)

WORDS = st.integers(-(1 << 64), (1 << 64) - 1)
SCALARS = st.none() | st.booleans() | WORDS | st.binary(max_size=40) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
).filter(lambda value: depth(value) <= 8)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
PCRS = st.dictionaries(
    st.sampled_from(HashAlgorithm), st.sets(st.integers(0, 23), min_size=1), min_size=1
).flatmap(
    lambda banks: st.fixed_dictionaries(
        {
            bank: st.fixed_dictionaries(
                {index: st.binary(min_size=bank.size, max_size=bank.size) for index in indices}
            )
            for bank, indices in banks.items()
        }
    )
)
CLAIMS = st.dictionaries(
    NAMES, st.text(max_size=30) | WORDS | st.booleans() | st.binary(max_size=30), max_size=12
)
BLOBS = st.binary(min_size=1, max_size=60)
QUOTES = st.builds(Quote, attest=BLOBS, signature=BLOBS)
NONCES = st.binary(min_size=8, max_size=64)
LOGS = st.none() | st.binary(min_size=1, max_size=300)
IMA_PARTS = st.none() | st.builds(
    ImaPart, offset=st.integers(0, 500_000), content=st.binary(max_size=300)
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(item) for item in value), default=0)
    return 0


@given(VALUES)
def test_cbor_comes_back_as_it_went(value: object) -> None:
    raw = strict_cbor.encode(value)  # type: ignore[arg-type]
    read = strict_cbor.decode(raw, limit_bytes=len(raw), structure="test")

    assert read == value
    assert strict_cbor.encode(read) == raw


@given(st.dictionaries(WORDS, WORDS, max_size=8), st.randoms())
def test_cbor_has_one_encoding_whatever_the_order(value: dict[int, int], random: object) -> None:
    items = list(value.items())
    random.shuffle(items)  # type: ignore[attr-defined]

    assert strict_cbor.encode(dict(items)) == strict_cbor.encode(value)  # type: ignore[arg-type]


@settings(max_examples=400)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_make_the_cbor_door_fail_otherwise(raw: bytes, integer_keys: bool) -> None:  # noqa: FBT001
    try:
        value = strict_cbor.decode(
            raw, limit_bytes=200, structure="test", integer_keys=integer_keys
        )
    except AttestationError:
        return
    strict_cbor.encode(value)


@given(
    st.dictionaries(
        NAMES.filter(lambda name: name != "__cmwc_t"),
        st.builds(
            CmwRecord,
            media_type=st.just("a/b") | st.integers(0, 65535),
            value=st.binary(max_size=30),
            indicator=st.none() | st.integers(1, 31).map(Indicator),
        ),
        min_size=1,
        max_size=16,
    ),
    st.none() | NAMES,
)
def test_a_collection_comes_back_as_it_went(
    records: dict[str, CmwRecord], collection_type: str | None
) -> None:
    sent = CmwCollection(collection_type=collection_type, records=records)

    assert decode_collection(encode_collection(sent), limit_bytes=10_000) == sent


@given(NONCES, QUOTES, PCRS, LOGS, st.booleans(), CLAIMS, IMA_PARTS, LOGS)
def test_evidence_comes_back_as_it_went_and_binds_alike(
    nonce: bytes,
    quote: Quote,
    pcrs: dict[HashAlgorithm, dict[int, bytes]],
    log: bytes | None,
    short: bool,  # noqa: FBT001
    claims: dict[str, str | int | bool | bytes],
    ima: ImaPart | None,
    agent: bytes | None,
) -> None:
    parts, whole = (
        encode_parts(
            pcrs, log, log_digest_only=digest_only, claims=claims, ima_list=ima, agent_log=agent
        )
        for digest_only in (short, False)
    )
    evidence = decode_evidence(encode_evidence(nonce, quote, parts))

    assert (evidence.nonce, evidence.quote) == (nonce, quote)
    assert (evidence.pcr_values, evidence.claims) == (pcrs, claims)
    assert evidence.part_digests == parts.digests == whole.digests
    assert (evidence.firmware_log is None) == (log is None)
    assert (evidence.ima_list, evidence.agent_log) == (ima, agent)


def sample() -> tuple[bytes, BoundParts]:
    parts = encode_parts(
        {HashAlgorithm.SHA256: {0: bytes(32), 7: b"\x01" * 32}},
        b"log" * 20,
        log_digest_only=False,
        claims={"kernel": "6.1", "n": 5},
        ima_list=ImaPart(offset=3, content=b"entry" * 5),
        agent_log=b"events",
    )
    return encode_evidence(b"n" * 16, Quote(attest=b"a" * 20, signature=b"s" * 20), parts), parts


@settings(max_examples=400)
@given(st.integers(0, len(sample()[0]) * 8 - 1))
def test_one_flipped_bit_is_refused_or_seen(place: int) -> None:
    """Either the codec refuses, or nonce, quote or binding differ; or it was the indicator."""
    raw, parts = sample()
    flipped = bytearray(raw)
    flipped[place // 8] ^= 1 << place % 8
    original = decode_evidence(raw)

    try:
        evidence = decode_evidence(bytes(flipped))
    except AttestationError:
        return

    seen = (evidence.nonce, evidence.quote, qualifying_data(b"", evidence.part_digests))
    unchanged = (original.nonce, original.quote, qualifying_data(b"", parts.digests))
    if seen == unchanged:
        assert evidence.digest != original.digest
        assert (evidence.pcr_values, evidence.claims, evidence.firmware_log) == (
            original.pcr_values,
            original.claims,
            original.firmware_log,
        )
        assert (evidence.ima_list, evidence.agent_log) == (original.ima_list, original.agent_log)


@settings(max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 400))
def test_no_bytes_make_a_codec_fail_otherwise(noise: bytes, place: int) -> None:
    raw, _ = sample()

    for hostile in (noise, raw[:place] + noise + raw[place:], raw[:place] + noise):
        for decode in (
            decode_evidence,
            decode_enrolment,
            lambda value: decode_record(value, limit_bytes=10_000),
        ):
            with contextlib.suppress(AttestationError):
                decode(hostile)


@given(
    st.builds(
        EnrolmentRequest,
        idevid_chain=st.lists(BLOBS, min_size=1, max_size=6).map(tuple),
        iak_chain=st.lists(BLOBS, min_size=1, max_size=6).map(tuple),
        idevid_public=BLOBS,
        iak_public=BLOBS,
        ldevid_public=BLOBS,
        idevid_certify=QUOTES,
        ldevid_certify=QUOTES,
        csr=BLOBS,
        evidence=BLOBS,
    )
)
def test_enrolment_comes_back_as_it_went(request: EnrolmentRequest) -> None:
    assert decode_enrolment(encode_enrolment(request)) == request


FINDINGS = st.lists(
    st.builds(
        Finding,
        code=st.just("code"),
        claim=st.sampled_from(Claim),
        value=st.integers(-128, 127),
        reason=st.text(max_size=20),
        step=st.integers(1, 7),
    ),
    max_size=10,
).map(tuple)


@given(
    FINDINGS,
    st.sampled_from(EarProfile),
    st.datetimes(datetime(1971, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(1, 10**6),
    st.just(b"") | NONCES,
    st.none() | st.binary(min_size=34, max_size=66).map(KeyName),
)
def test_a_result_comes_back_in_every_dialect(
    findings: tuple[Finding, ...],
    profile: EarProfile,
    at: datetime,
    lifetime_s: int,
    nonce: bytes,
    ak_name: KeyName | None,
) -> None:
    result = AttestationResult(
        device=DeviceId("dev-1"),
        vector=worst_vector(findings),
        findings=findings,
        steps=(),
        policy_id="policy",
        at=at,
        evidence_digest=bytes(32),
        nonce=nonce,
    )

    ear = decode_ear(
        encode_ear(
            result,
            verifier=VerifierIdentity(developer="d", build="b"),
            issued_at=at,
            expires_at=at + timedelta(seconds=lifetime_s),
            profile=profile,
            ak_name=ak_name,
        )
    )

    appraisal = ear.submods["dev-1"]
    assert ear.key_id == (None if ak_name is None else key_id_text(ak_name))
    assert (appraisal.vector, appraisal.status) == (result.vector, result.status)
    assert ear.status is result.status
    assert appraisal.reasons == result.reasons
    assert (appraisal.nonce is None) == (nonce == b"")
    assert ear.issued_at == at.replace(microsecond=0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=6)
            | st.sampled_from(["ear_status", "ear.status", "eat_nonce", "hardware", "developer"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(
    st.sampled_from([profile.value for profile in EarProfile]),
    st.dictionaries(
        st.sampled_from(
            ["iat", "exp", "submods", "ear_status", "ear_verifier_id", "ear.verifier-id"]
        ),
        JSON,
    ),
)
def test_no_claims_make_the_ear_reader_fail_otherwise(
    profile: str, claims: dict[str, object]
) -> None:
    good = {
        "eat_profile": profile,
        "iat": 5,
        "ear_verifier_id": {"developer": "d", "build": "b"},
        "ear.verifier-id": {"developer": "d", "build": "b"},
        "submods": {"s": {"ear_status": "none", "ear.status": "none"}},
    }
    with contextlib.suppress(AttestationError):
        decode_ear({**good, **claims})
