"""Agent logs, AIBOMs and endorsements: any bytes give a value or one of our errors."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.logs.agent_files import AgentFiles
from attestation.logs.cel import (
    CelLog,
    Measurement,
    RecordKind,
    content_digests,
    decode_cel,
    encode_content,
    encode_record,
    replay_cel,
    shown_path,
    whole_records,
)
from attestation.wire.cyclonedx import read_aibom
from attestation.wire.dsse import read_envelope, read_statement
from tests.simulators import soft_agent
from tests.simulators.soft_provider import SoftProvider
from verifier.reference_values.aibom import load_aibom

BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
PROVIDER = SoftProvider()
paths = st.binary(min_size=1, max_size=30).filter(lambda one: b"\0" not in one)
measurements = st.lists(
    st.builds(
        Measurement,
        kind=st.sampled_from(RecordKind),
        path=paths.map(lambda one: one.decode("utf-8", "surrogateescape")),
        digest=st.binary(min_size=32, max_size=32),
    ),
    min_size=1,
    max_size=6,
)


def log_of(measured: list[Measurement]) -> bytes:
    log = b""
    for number, one in enumerate(measured):
        content = encode_content(one)
        log += encode_record(number, 13, content_digests(content, BANKS), content)
    return log


def judged(data: bytes) -> CelLog | None:
    whole_records(data)
    try:
        log = decode_cel(data)
        for bank in BANKS:
            replay_cel(log, bank)
    except AttestationError:
        return None
    for one in AgentFiles.of(record.measured for record in log.records).present:
        assert shown_path(one).isprintable()
    return log


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_parsed(data: bytes) -> None:
    judged(data)


@given(measurements)
def test_what_was_written_is_read(measured: list[Measurement]) -> None:
    log = judged(log_of(measured))

    assert log is not None
    assert [one.measured for one in log.records] == measured


@settings(max_examples=300)
@given(measurements, st.integers(0, 2**20), st.integers(0, 255))
def test_no_byte_can_change_without_being_refused_or_seen(
    measured: list[Measurement], place: int, value: int
) -> None:
    """Only PCR numbers are covered by nothing but the verifier's own question for a PCR."""
    data = bytearray(log_of(measured))
    at = place % len(data)
    if data[at] == value:
        return
    data[at] = value
    changed = judged(bytes(data))
    assert changed is None or changed.pcr != 13


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=3)), max_size=4))
def test_mutated_aibom_is_refused_or_read(edits: list[tuple[int, bytes]]) -> None:
    document = bytearray(soft_agent.text(soft_agent.aibom()))
    for place, patch in edits:
        at = place % len(document)
        document[at : at + len(patch)] = patch
    try:
        listing = read_aibom(bytes(document))
    except AttestationError:
        return
    assert listing.files


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = [
    *("metadata", "components", "dependencies", "vulnerabilities", "type", "bom-ref", "name"),
    *("hashes", "evidence", "data", "modelCard", "purl", "version", "specVersion"),
]


@settings(max_examples=300)
@given(st.sampled_from(KEYS), json_values, st.integers(0, 5))
def test_any_value_in_any_place_of_an_aibom_is_refused_or_read(
    key: str, value: object, place: int
) -> None:
    bom = soft_agent.aibom()
    table = bom if place == 5 else bom["components"][place % len(bom["components"])]
    table[key] = value
    try:
        read_aibom(json.dumps(bom).encode())
    except AttestationError:
        return


@settings(max_examples=300)
@given(json_values)
def test_any_envelope_is_refused_or_read(document: object) -> None:
    for one in (document, {"payloadType": "application/vnd.in-toto+json", "payload": document}):
        try:
            read_statement(read_envelope(one).payload)
        except AttestationError:
            continue


@settings(max_examples=200)
@given(st.sampled_from(["_type", "subject", "predicateType", "predicate"]), json_values)
def test_any_value_in_a_statement_is_refused_or_read(key: str, value: object) -> None:
    envelope = PROVIDER.endorse(b"a", **{key: value})
    try:
        read_statement(read_envelope(envelope).payload)
    except AttestationError:
        return


@given(st.text(max_size=60))
def test_any_stored_document_is_refused(text: str) -> None:
    for document in (text, json.dumps({"aibom": text, "endorsement": None})):
        try:
            load_aibom(document, "test", {"acme": text})
        except AttestationError:
            continue
        raise AssertionError(document)
