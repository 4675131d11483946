from __future__ import annotations

import json

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_NONCE_MESSAGE_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.est import (
    LABEL,
    OPERATIONS,
    PCR_SELECTION,
    NonceRequest,
    NonceResponse,
    certs_only,
    decode_body,
    decode_nonce_request,
    decode_nonce_response,
    encode_body,
    encode_nonce_response,
    read_certs_only,
)
from tests.simulators.soft_manufacturer import SoftManufacturer

ROOT = x509.load_pem_x509_certificate(SoftManufacturer().root_pem)


@given(st.binary(min_size=1, max_size=300), st.sampled_from([b"", b"\n", b"\r\n"]))
def test_body_survives_any_line_breaks(der: bytes, ending: bytes) -> None:
    text = encode_body(der)
    broken = ending.join(text[at : at + 64] for at in range(0, len(text), 64)) + ending

    assert decode_body(text) == der
    assert decode_body(broken) == der


@given(st.binary(max_size=100))
def test_whatever_is_taken_is_the_only_base64_of_its_content(body: bytes) -> None:
    try:
        der = decode_body(body)
    except MalformedInput:
        return
    text = body.translate(None, b"\r\n")
    unused = text.count(b"=")

    assert len(text) == len(encode_body(der))
    assert text[: -1 - unused] == encode_body(der)[: -1 - unused]


@pytest.mark.parametrize(
    "body", [b"", b"=", b"====", b"A", b"AA", b"AAA", b"A===", b"AAAA====", b"AA=A", b"AAAA\tAAAA"]
)
def test_padding_and_junk_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedInput) as caught:
        decode_body(body)

    assert caught.value.code is RefusalCode.BASE64_MALFORMED


def test_body_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded):
        decode_body(b"?" * 11, limit_bytes=10)


def test_certificates_survive_and_something_else_is_refused() -> None:
    assert read_certs_only(certs_only([ROOT])) == (ROOT,)
    for junk in (b"", b"\x30\x00", certs_only([ROOT])[:-1]):
        with pytest.raises(MalformedInput):
            read_certs_only(junk)
    with pytest.raises(LimitExceeded):
        read_certs_only(certs_only([ROOT] * 25))


def test_nonce_survives_with_what_belongs_to_it() -> None:
    whole = NonceResponse(nonce=bytes(56), expires_in_s=300, pcr_selection="sha256:0,1")
    bare = NonceResponse(nonce=b"12345678")

    assert decode_nonce_response(encode_nonce_response(whole)) == whole
    assert decode_nonce_response(encode_nonce_response(bare)) == bare
    assert json.loads(encode_nonce_response(whole))["respTypeInfo"] == {
        "type": PCR_SELECTION,
        "respInfo": "sha256:0,1",
    }


def test_information_of_another_type_is_not_taken_for_ours() -> None:
    raw = b'{"nonce": "MTIzNDU2Nzg", "respTypeInfo": {"type": "1.2.3", "respInfo": "sha256:0"}}'

    assert decode_nonce_response(raw) == NonceResponse(nonce=b"12345678")


def test_request_for_a_nonce_may_say_nothing_or_much() -> None:
    assert decode_nonce_request(b"{}") == NonceRequest()
    assert decode_nonce_request(
        b'{"len": 64, "reqTypeInfo": {"type": "1.2.3", "reqInfo": {"a": [1]}}}'
    ) == NonceRequest(length=64, type="1.2.3")


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"null", b'{"nonce": ""}', b'{"nonce": "MTIzNDU2Nz"}', b'{"nonce": 7}'),
        *(b'{"nonce": "MTIzNDU2Nzg="}', b'{"nonce": "' + b"A" * 87 + b'"}', b"{}"),
        *(b'{"nonce": "MTIzNDU2Nzg", "expiry": -1}', b'{"nonce": "MTIzNDU2Nzg", "expiry": true}'),
        b'{"nonce": "MTIzNDU2Nzg", "respTypeInfo": {}}',
        b" " * (MAX_NONCE_MESSAGE_BYTES + 1),
    ],
)
def test_answer_that_is_no_nonce_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        decode_nonce_response(raw)


def test_no_operation_can_be_meant_by_a_label_of_strange_signs() -> None:
    assert all(LABEL.fullmatch(one) for one in OPERATIONS)
    for strange in ("", "a/b", "a b", "\u00e9", "a" * 65, "%2f", "a\n"):
        assert LABEL.fullmatch(strange) is None
