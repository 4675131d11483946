"""Evidence on the wire: what is bound, what is refused."""

import hashlib

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError, LimitExceeded, MalformedInput, Unsupported
from attestation.evidence import ImaPart, Quote, qualifying_data
from attestation.limits import (
    MAX_AGENT_LOG_BYTES,
    MAX_CLAIMS_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_FIRMWARE_LOG_BYTES,
    MAX_IMA_ENTRIES,
    MAX_IMA_PART_BYTES,
)
from attestation.refusals import RefusalCode
from attestation.wire import media_types, strict_cbor
from attestation.wire.evidence_codec import (
    MAX_CLAIMS,
    BoundParts,
    decode_evidence,
    encode_evidence,
    encode_parts,
)

NONCE = bytes(range(56))
QUOTE = Quote(attest=b"attest", signature=b"signature")
SHA256 = HashAlgorithm.SHA256
PCRS = {SHA256: {0: b"\x01" * 32, 7: b"\x02" * 32}, HashAlgorithm.SHA384: {23: b"\x03" * 48}}
CLAIMS = {"kernel": "6.1", "uptime_s": 12, "secure": True, "boot_id": b"\x00\xff"}
LOG = b"firmware log" * 100
IMA = ImaPart(offset=17, content=b"entries")
AGENT_LOG = b"canonical event log"


def message(**changes: object) -> bytes:
    """A good message with parts replaced (or, by None, removed) underneath its label."""
    parts: dict[str, object] = {
        "__cmwc_t": media_types.EVIDENCE_COLLECTION_TYPE,
        "challenge": [media_types.CHALLENGE, NONCE, 4],
        "quote": [
            media_types.TPM_QUOTE,
            strict_cbor.encode({"attest": b"a", "signature": b"s"}),
            4,
        ],
        "pcr-values": [media_types.PCR_VALUES, strict_cbor.encode({11: {0: bytes(32)}}), 4],
    }
    for label, value in changes.items():
        parts[label.replace("_", "-") if label != "__cmwc_t" else label] = value
    present = {label: value for label, value in parts.items() if value is not None}
    return strict_cbor.encode(present)  # type: ignore[arg-type]


def full(**more: object) -> BoundParts:
    """Every part there is, some replaced."""
    given: dict[str, object] = {"ima_list": IMA, "agent_log": AGENT_LOG, **more}
    return encode_parts(PCRS, LOG, log_digest_only=False, claims=CLAIMS, **given)  # type: ignore[arg-type]


def refusal(raw: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        decode_evidence(raw)
    return caught.value


@pytest.mark.parametrize("log", [None, LOG])
@pytest.mark.parametrize("claims", [{}, CLAIMS])
def test_evidence_comes_back_as_it_went(log: bytes | None, claims: dict[str, object]) -> None:
    parts = encode_parts(PCRS, log, log_digest_only=False, claims=claims)  # type: ignore[arg-type]
    raw = encode_evidence(NONCE, QUOTE, parts)

    evidence = decode_evidence(raw)

    assert evidence.nonce == NONCE
    assert evidence.quote == QUOTE
    assert evidence.pcr_values == PCRS
    assert evidence.claims == claims
    assert evidence.part_digests == parts.digests
    assert evidence.digest == hashlib.sha256(raw).digest()
    if log is None:
        assert evidence.firmware_log is None
    else:
        assert evidence.firmware_log is not None
        assert evidence.firmware_log.content == log
        assert evidence.firmware_log.digest == hashlib.sha256(log).digest()


@pytest.mark.parametrize("ima", [None, IMA, ImaPart(offset=0, content=b"")])
@pytest.mark.parametrize("agent_log", [None, AGENT_LOG])
def test_running_systems_logs_come_back_as_they_went(
    ima: ImaPart | None, agent_log: bytes | None
) -> None:
    parts = full(ima_list=ima, agent_log=agent_log)

    evidence = decode_evidence(encode_evidence(NONCE, QUOTE, parts))

    assert (evidence.ima_list, evidence.agent_log) == (ima, agent_log)
    assert evidence.part_digests == parts.digests


@pytest.mark.parametrize(
    "part",
    [
        {"offset": 0},
        {"entries": b""},
        {"offset": -1, "entries": b""},
        {"offset": MAX_IMA_ENTRIES + 1, "entries": b""},
        {"offset": True, "entries": b""},
        {"offset": b"", "entries": b""},
        {"offset": 0, "entries": "text"},
        {"offset": 0, "entries": b"", "more": 1},
        [0, b""],
    ],
)
def test_malformed_ima_part_is_refused(part: object) -> None:
    raw = strict_cbor.encode(part)  # type: ignore[arg-type]

    assert refusal(message(ima_list=[media_types.IMA_LIST, raw])).code is (
        RefusalCode.EVIDENCE_MALFORMED
    )


def test_the_largest_ima_part_is_read_and_one_byte_more_refused() -> None:
    def part(size: int) -> bytes:
        raw = strict_cbor.encode({"offset": MAX_IMA_ENTRIES, "entries": bytes(size)})
        return message(ima_list=[media_types.IMA_LIST, raw])

    read = decode_evidence(part(MAX_IMA_PART_BYTES)).ima_list

    assert read is not None
    assert (read.offset, len(read.content)) == (MAX_IMA_ENTRIES, MAX_IMA_PART_BYTES)
    assert refusal(part(MAX_IMA_PART_BYTES + 1)).code is RefusalCode.TOO_LARGE


def test_the_largest_agent_log_is_read_and_one_byte_more_refused() -> None:
    largest = bytes(MAX_AGENT_LOG_BYTES)
    assert decode_evidence(message(agent_log=[media_types.AGENT_LOG, largest])).agent_log

    error = refusal(message(agent_log=[media_types.AGENT_LOG, largest + b"x"]))

    assert error.code is RefusalCode.TOO_LARGE


def test_an_empty_agent_log_is_refused() -> None:
    assert refusal(message(agent_log=[media_types.AGENT_LOG, b""])).code is (
        RefusalCode.EVIDENCE_MALFORMED
    )


def test_the_largest_parts_fit_into_one_message_together() -> None:
    parts = encode_parts(
        PCRS,
        bytes(MAX_FIRMWARE_LOG_BYTES),
        log_digest_only=False,
        claims={"a": "x" * (MAX_CLAIMS_BYTES - 16)},
        ima_list=ImaPart(offset=0, content=bytes(MAX_IMA_PART_BYTES)),
        agent_log=bytes(MAX_AGENT_LOG_BYTES),
    )

    assert decode_evidence(encode_evidence(NONCE, QUOTE, parts)).ima_list


def test_claims_keep_their_kinds() -> None:
    parts = encode_parts(PCRS, None, log_digest_only=False, claims=CLAIMS)

    claims = decode_evidence(encode_evidence(NONCE, QUOTE, parts)).claims

    assert {name: type(fact) for name, fact in claims.items()} == {
        name: type(fact) for name, fact in CLAIMS.items()
    }


def test_whole_log_and_its_digest_are_bound_alike() -> None:
    whole = encode_parts(PCRS, LOG, log_digest_only=False, claims=CLAIMS)
    short = encode_parts(PCRS, LOG, log_digest_only=True, claims=CLAIMS)

    evidence = decode_evidence(encode_evidence(NONCE, QUOTE, short))

    assert whole.digests == short.digests == evidence.part_digests
    assert evidence.firmware_log is not None
    assert evidence.firmware_log.content is None
    assert evidence.firmware_log.digest == hashlib.sha256(LOG).digest()


def test_the_bound_digests_are_the_documented_ones() -> None:
    parts = full()

    assert dict(parts.digests) == {
        "ima-list": hashlib.sha256(
            media_types.IMA_LIST.encode()
            + b"\x00"
            + strict_cbor.encode({"offset": 17, "entries": b"entries"})
        ).digest(),
        "agent-log": hashlib.sha256(media_types.AGENT_LOG.encode() + b"\x00" + AGENT_LOG).digest(),
        "claims": hashlib.sha256(
            media_types.CLAIMS.encode() + b"\x00" + strict_cbor.encode(CLAIMS)  # type: ignore[arg-type]
        ).digest(),
        "firmware-log": hashlib.sha256(b"firmware-log\x00" + hashlib.sha256(LOG).digest()).digest(),
        "pcr-values": hashlib.sha256(
            media_types.PCR_VALUES.encode()
            + b"\x00"
            + strict_cbor.encode({11: PCRS[SHA256], 12: PCRS[HashAlgorithm.SHA384]})  # type: ignore[dict-item]
        ).digest(),
    }
    assert [label for label, _ in parts.digests] == sorted(dict(parts.digests))


@pytest.mark.parametrize(
    "other",
    [
        encode_parts({SHA256: {0: bytes(32)}}, LOG, log_digest_only=False, claims=CLAIMS),
        encode_parts(PCRS, LOG + b"x", log_digest_only=False, claims=CLAIMS),
        encode_parts(PCRS, None, log_digest_only=False, claims=CLAIMS),
        encode_parts(PCRS, LOG, log_digest_only=False, claims={**CLAIMS, "kernel": "6.2"}),
        encode_parts(PCRS, LOG, log_digest_only=False, claims={}),
        full(ima_list=ImaPart(offset=16, content=IMA.content)),
        full(ima_list=ImaPart(offset=17, content=b"others!")),
        full(ima_list=ImaPart(offset=17, content=b"")),
        full(ima_list=None),
        full(agent_log=b"another"),
        full(agent_log=None),
        full(agent_log=IMA.content, ima_list=ImaPart(offset=17, content=AGENT_LOG)),
    ],
)
def test_no_part_can_be_swapped_or_dropped_under_a_quote(other: object) -> None:
    mine = full()
    swapped = decode_evidence(encode_evidence(NONCE, QUOTE, other))  # type: ignore[arg-type]

    assert qualifying_data(NONCE, swapped.part_digests) != qualifying_data(NONCE, mine.digests)


def test_the_plain_message_of_these_tests_is_accepted() -> None:
    assert decode_evidence(message()).pcr_values == {SHA256: {0: bytes(32)}}


@pytest.mark.parametrize("label", ["challenge", "quote", "pcr_values"])
def test_a_missing_part_is_named(label: str) -> None:
    error = refusal(message(**{label: None}))

    assert error.code is RefusalCode.EVIDENCE_PART_MISSING
    assert label.replace("_", "-") in error.reason


def test_an_unknown_part_is_refused() -> None:
    error = refusal(message(extra=["a/b", b"", 4]))

    assert error.code is RefusalCode.EVIDENCE_MALFORMED


@pytest.mark.parametrize("type_", [None, "urn:x-device-attestation:evidence:2"])
def test_another_collection_type_is_unsupported(type_: str | None) -> None:
    error = refusal(message(__cmwc_t=type_))

    assert isinstance(error, Unsupported)
    assert error.code is RefusalCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("type_", [media_types.PCR_VALUES, "application/octet-stream", 60])
def test_a_part_of_another_type_is_unsupported(type_: object) -> None:
    error = refusal(message(challenge=[type_, NONCE, 4]))

    assert error.code is RefusalCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize(("indicator", "accepted"), [(4, True), (12, True), (8, False), (1, False)])
def test_a_part_that_says_it_is_no_evidence_is_refused(indicator: int, *, accepted: bool) -> None:
    raw = message(challenge=[media_types.CHALLENGE, NONCE, indicator])

    if accepted:
        decode_evidence(raw)
    else:
        assert refusal(raw).code is RefusalCode.EVIDENCE_MALFORMED


def test_a_part_without_indicator_is_accepted() -> None:
    assert decode_evidence(message(challenge=[media_types.CHALLENGE, NONCE])).nonce == NONCE


@pytest.mark.parametrize("size", [0, 7, 65])
def test_a_nonce_of_another_size_is_refused_unrepeated(size: int) -> None:
    error = refusal(message(challenge=[media_types.CHALLENGE, b"N" * size, 4]))

    assert error.code is RefusalCode.NONCE_MALFORMED
    assert "NNN" not in str(error)


@pytest.mark.parametrize("size", [8, 64])
def test_a_nonce_of_an_eat_size_is_accepted(size: int) -> None:
    assert decode_evidence(message(challenge=[media_types.CHALLENGE, b"N" * size])).nonce


@pytest.mark.parametrize(
    "quote",
    [
        {"attest": b"a"},
        {"signature": b"s"},
        {"attest": b"", "signature": b"s"},
        {"attest": b"a", "signature": "s"},
        {"attest": b"a", "signature": b"s", "more": 1},
        [b"a", b"s"],
    ],
)
def test_a_malformed_quote_part_is_refused(quote: object) -> None:
    raw = strict_cbor.encode(quote)  # type: ignore[arg-type]

    assert refusal(message(quote=[media_types.TPM_QUOTE, raw])).code is (
        RefusalCode.EVIDENCE_MALFORMED
    )


def test_an_oversized_attest_is_refused() -> None:
    raw = strict_cbor.encode({"attest": bytes(4097), "signature": b"s"})

    assert isinstance(refusal(message(quote=[media_types.TPM_QUOTE, raw])), LimitExceeded)


@pytest.mark.parametrize(
    "values",
    [
        {},
        [],
        {11: {}},
        {11: []},
        {11: {24: bytes(32)}},
        {11: {-1: bytes(32)}},
        {11: {"0": bytes(32)}},
        {11: {0: bytes(31)}},
        {11: {0: bytes(33)}},
        {11: {0: "0" * 32}},
        {12: {0: bytes(32)}},
        {"sha256": {0: bytes(32)}},
        {-11: {0: bytes(32)}},
    ],
)
def test_malformed_pcr_values_are_refused(values: object) -> None:
    raw = strict_cbor.encode(values)  # type: ignore[arg-type]

    assert refusal(message(pcr_values=[media_types.PCR_VALUES, raw])).code is (
        RefusalCode.EVIDENCE_MALFORMED
    )


def test_a_bank_we_do_not_compute_is_unsupported() -> None:
    raw = strict_cbor.encode({0x12: {0: bytes(32)}})

    assert refusal(message(pcr_values=[media_types.PCR_VALUES, raw])).code is (
        RefusalCode.UNSUPPORTED_ALGORITHM
    )


def test_pcr_values_above_their_size_are_refused() -> None:
    assert refusal(message(pcr_values=[media_types.PCR_VALUES, bytes(8193)])).code is (
        RefusalCode.TOO_LARGE
    )


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_log_digest_of_another_size_is_refused(size: int) -> None:
    part = [media_types.FIRMWARE_LOG_DIGEST, bytes(size)]

    assert refusal(message(firmware_log=part)).code is RefusalCode.EVIDENCE_MALFORMED


def test_an_empty_log_is_refused() -> None:
    assert refusal(message(firmware_log=[media_types.FIRMWARE_LOG, b""])).code is (
        RefusalCode.EVIDENCE_MALFORMED
    )


def test_the_largest_log_is_read_and_one_byte_more_refused() -> None:
    largest = bytes(MAX_FIRMWARE_LOG_BYTES)
    assert decode_evidence(message(firmware_log=[media_types.FIRMWARE_LOG, largest])).firmware_log

    error = refusal(message(firmware_log=[media_types.FIRMWARE_LOG, largest + b"\x00"]))

    assert error.code is RefusalCode.TOO_LARGE


def test_a_message_above_its_size_is_refused_before_it_is_read() -> None:
    assert refusal(b"\xa1" + bytes(MAX_EVIDENCE_BYTES)).code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize(
    "claims", [[], {"": 1}, {"x" * 65: 1}, {"a\x1b[2J": 1}, {"a": None}, {"a": [1]}, {"a": {}}]
)
def test_malformed_claims_are_refused(claims: object) -> None:
    raw = strict_cbor.encode(claims)  # type: ignore[arg-type]

    assert refusal(message(claims=[media_types.CLAIMS, raw])).code is RefusalCode.CLAIMS_MALFORMED


def test_a_floating_claim_is_refused() -> None:
    raw = bytes.fromhex("a16161fa3f800000")

    assert refusal(message(claims=[media_types.CLAIMS, raw])).code is RefusalCode.CBOR_MALFORMED


def test_the_most_claims_are_read_and_one_more_refused() -> None:
    facts = {f"fact{number}": number for number in range(MAX_CLAIMS)}
    raw = strict_cbor.encode(dict(facts))
    assert decode_evidence(message(claims=[media_types.CLAIMS, raw])).claims == facts

    more = strict_cbor.encode({**facts, "more": 1})

    assert refusal(message(claims=[media_types.CLAIMS, more])).code is RefusalCode.TOO_MANY


def test_claims_above_their_size_are_refused() -> None:
    raw = strict_cbor.encode({"a": "x" * MAX_CLAIMS_BYTES})

    assert refusal(message(claims=[media_types.CLAIMS, raw])).code is RefusalCode.TOO_LARGE


def test_a_nested_collection_is_refused() -> None:
    with pytest.raises(MalformedInput):
        decode_evidence(message(claims={"inner": [media_types.CLAIMS, b"\xa0"]}))


def test_every_truncation_is_refused() -> None:
    raw = message()

    for size in range(len(raw)):
        with pytest.raises(InputError):
            decode_evidence(raw[:size])
