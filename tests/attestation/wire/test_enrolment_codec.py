"""Enrolment requests on the wire."""

from dataclasses import fields

import pytest

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.evidence import Quote
from attestation.limits import (
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_LENGTH,
    MAX_ENROLMENT_BYTES,
    MAX_EVIDENCE_BYTES,
)
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.enrolment_codec import (
    EnrolmentRequest,
    decode_enrolment,
    encode_enrolment,
)

REQUEST = EnrolmentRequest(
    idevid_chain=(b"idevid leaf", b"idevid ca"),
    iak_chain=(b"iak leaf",),
    idevid_public=b"idevid public",
    iak_public=b"iak public",
    ldevid_public=b"ldevid public",
    idevid_certify=Quote(attest=b"attest 1", signature=b"signature 1"),
    ldevid_certify=Quote(attest=b"attest 2", signature=b"signature 2"),
    csr=b"csr",
    evidence=b"evidence",
)
KEYS = [field.name.replace("_", "-") for field in fields(EnrolmentRequest)]


def changed(**changes: object) -> bytes:
    value = strict_cbor.decode(encode_enrolment(REQUEST), limit_bytes=4096, structure="test")
    assert isinstance(value, dict)
    for key, item in changes.items():
        value[key.replace("_", "-")] = item
    return strict_cbor.encode({key: item for key, item in value.items() if item is not None})


def test_a_request_comes_back_as_it_went() -> None:
    assert decode_enrolment(encode_enrolment(REQUEST)) == REQUEST


@pytest.mark.parametrize("key", KEYS)
def test_every_field_is_required(key: str) -> None:
    with pytest.raises(MalformedInput, match=f"'{key}' is missing") as caught:
        decode_enrolment(changed(**{key: None}))

    assert caught.value.code is RefusalCode.REQUEST_INVALID


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("wrong", [b"", "text", 1, True, [], {}, [1], [b""], {"attest": b"a"}])
def test_a_field_of_another_kind_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(MalformedInput):
        decode_enrolment(changed(**{key: wrong}))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(MalformedInput, match="unknown keys"):
        decode_enrolment(changed(more=b"x"))
    with pytest.raises(MalformedInput, match="unknown keys"):
        decode_enrolment(changed(idevid_certify={"attest": b"a", "signature": b"s", "more": b"x"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("idevid_chain", [b"x"] * (MAX_CHAIN_LENGTH + 1)),
        ("iak_chain", [bytes(MAX_CERTIFICATE_BYTES + 1)]),
        ("idevid_public", bytes(4097)),
        ("iak_public", bytes(4097)),
        ("ldevid_public", bytes(4097)),
        ("idevid_certify", {"attest": bytes(4097), "signature": b"s"}),
        ("ldevid_certify", {"attest": b"a", "signature": bytes(4097)}),
        ("csr", bytes(16 * 1024 + 1)),
        ("evidence", bytes(MAX_EVIDENCE_BYTES + 1)),
    ],
)
def test_a_field_above_its_limit_is_refused(key: str, value: object) -> None:
    with pytest.raises(LimitExceeded):
        decode_enrolment(changed(**{key: value}))


def test_a_request_above_its_size_is_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        decode_enrolment(bytes(MAX_ENROLMENT_BYTES + 1))

    assert caught.value.code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\xa0", b"\xa1\x01\x02", b"garbage"])
def test_something_else_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        decode_enrolment(raw)
