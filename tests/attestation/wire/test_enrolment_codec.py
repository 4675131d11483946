"""Enrolment requests on the wire."""

from dataclasses import fields, replace

import pytest

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.evidence import Quote
from attestation.limits import (
    MAX_ACTIVATION_REQUEST_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_LENGTH,
    MAX_CLOUD_DOCUMENT_BYTES,
    MAX_ENROLMENT_BYTES,
    MAX_ENROLMENT_PROOFS,
    MAX_EVIDENCE_BYTES,
    MAX_PROOF_BYTES,
)
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.enrolment_codec import (
    ActivationRequest,
    CloudStatement,
    EkStatement,
    EnrolmentRequest,
    decode_activation,
    decode_enrolment,
    encode_activation,
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
FULL = replace(
    REQUEST,
    nonce=b"nonce",
    result="a.b.c",
    ek=EkStatement(public=b"ek", chain=(b"leaf",), activation=b"id", answer=b"secret"),
    cloud=CloudStatement(aws_iid=b"signed", azure_msi="a.b.c"),
    proofs={"owner-binding": b"a.b.c"},
)
KEYS = [field.name.replace("_", "-") for field in fields(EnrolmentRequest)]
REQUIRED = ["iak-public", "ldevid-public"]


def changed(**changes: object) -> bytes:
    value = strict_cbor.decode(encode_enrolment(REQUEST), limit_bytes=4096, structure="test")
    assert isinstance(value, dict)
    for key, item in changes.items():
        value[key.replace("_", "-")] = item
    return strict_cbor.encode({key: item for key, item in value.items() if item is not None})


def test_a_request_comes_back_as_it_went() -> None:
    assert decode_enrolment(encode_enrolment(REQUEST)) == REQUEST


def test_a_request_with_every_proof_comes_back_as_it_went() -> None:
    assert decode_enrolment(encode_enrolment(FULL)) == FULL


@pytest.mark.parametrize("key", [key for key in KEYS if key not in REQUIRED])
def test_what_the_policy_may_not_want_may_be_left_out(key: str) -> None:
    decoded = decode_enrolment(changed(**{key: None}))

    name = key.replace("-", "_")
    assert getattr(decoded, name) in ((), b"", None, "", CloudStatement(), {})


def test_what_is_shown_is_never_told() -> None:
    for secret in ("secret", "nonce=", "azure_msi"):
        assert secret not in repr(FULL)


def test_an_activation_request_comes_back_as_it_went() -> None:
    for chain in ((), (b"leaf", b"ca")):
        request = ActivationRequest(ek_public=b"ek", ek_chain=chain, iak_public=b"iak")
        assert decode_activation(encode_activation(request)) == request


@pytest.mark.parametrize("raw", [b"", b"\xa0", b"garbage", bytes(MAX_ACTIVATION_REQUEST_BYTES + 1)])
def test_something_else_than_an_activation_request_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        decode_activation(raw)


@pytest.mark.parametrize("key", REQUIRED)
def test_the_keys_are_required(key: str) -> None:
    with pytest.raises(MalformedInput, match=f"'{key}' is missing") as caught:
        decode_enrolment(changed(**{key: None}))

    assert caught.value.code is RefusalCode.REQUEST_INVALID


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("wrong", [b"", "text", 1, True, [], {}, [1], [b""], {"attest": b"a"}])
def test_a_field_of_another_kind_is_refused(key: str, wrong: object) -> None:
    if (key, wrong) in (("result", "text"), ("proofs", {"attest": b"a"})):
        return
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
        ("nonce", bytes(65)),
        ("result", "x" * (MAX_PROOF_BYTES + 1)),
        ("ek", {"public": bytes(4097)}),
        ("ek", {"public": b"p", "chain": [b"x"] * (MAX_CHAIN_LENGTH + 1)}),
        ("ek", {"public": b"p", "activation": {"id": b"i", "answer": bytes(65)}}),
        ("cloud", {"aws-iid": bytes(MAX_CLOUD_DOCUMENT_BYTES + 1)}),
        ("cloud", {"azure-msi": "x" * (MAX_CLOUD_DOCUMENT_BYTES + 1)}),
        ("proofs", {"owner-binding": bytes(MAX_PROOF_BYTES + 1)}),
        ("proofs", {f"p{number}": b"x" for number in range(MAX_ENROLMENT_PROOFS + 1)}),
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
