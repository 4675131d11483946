from __future__ import annotations

import contextlib
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation import der
from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_ATTESTED_CSR_BYTES, MAX_CSR_STATEMENTS
from attestation.refusals import RefusalCode
from attestation.wire.csr_attestation import (
    ATTESTATION_ATTRIBUTE,
    CMW,
    TPM_CERTIFY,
    Bundle,
    Statement,
    TpmCertify,
    build_request,
    cmw,
    encode_bundle,
    read_bundle,
    read_cmw,
    read_tpm_certify,
    tpm_certify,
)

KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SUBJECT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
ECDSA_SHA256 = der.write(der.SEQUENCE, der.write_oid("1.2.840.10045.4.3.2"))
CERTIFY = TpmCertify(attest=b"\xffTCG\x80\x17a", signature=b"s" * 72, public=b"p" * 90)
CERTIFICATE = der.write(der.SEQUENCE, b"\x02\x01\x01")


def sign(data: bytes) -> bytes:
    return KEY.sign(data, ec.ECDSA(hashes.SHA256()))


def request(bundle: Bundle | None, *attributes: bytes) -> bytes:
    return build_request(
        SUBJECT.public_bytes(),
        SPKI,
        bundle,
        algorithm=ECDSA_SHA256,
        sign=sign,
        attributes=attributes,
    )


def attribute(oid: str, *values: bytes) -> bytes:
    return der.write(der.SEQUENCE, der.write_oid(oid), der.write(der.SET, *values))


def refused(raw: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read_bundle(raw)
    return caught.value


WHOLE = Bundle(statements=(tpm_certify(CERTIFY), cmw(b"\xa0" * 300)), certificates=(CERTIFICATE,))


def test_request_survives_and_is_one_for_the_library_too() -> None:
    raw = request(WHOLE)

    seen = read_bundle(raw)
    csr = x509.load_der_x509_csr(raw)

    assert seen == WHOLE
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=device"
    assert csr.public_key() == KEY.public_key()
    assert read_tpm_certify(seen.statements[0]) == CERTIFY
    assert read_cmw(seen.statements[1]) == b"\xa0" * 300
    assert [one.type for one in seen.statements] == [TPM_CERTIFY, CMW]
    assert seen.of_type(CMW) == (WHOLE.statements[1],)


def test_request_without_the_attribute_has_no_bundle() -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    plain = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)

    assert read_bundle(plain) is None
    assert read_bundle(request(None)) is None


def test_public_area_and_certificates_may_be_left_out() -> None:
    certify = TpmCertify(attest=b"a", signature=b"s", public=b"")
    seen = read_bundle(request(Bundle(statements=(tpm_certify(certify),))))

    assert seen is not None
    assert read_tpm_certify(seen.statements[0]) == certify
    assert seen.certificates == ()


def test_hint_of_older_drafts_is_taken_and_ignored() -> None:
    statement = der.write(
        der.SEQUENCE,
        der.write_oid(CMW),
        cmw(b"x").content,
        der.write(0x16, b"verifier.example.com"),
    )
    bundle = der.write(der.SEQUENCE, der.write(der.SEQUENCE, statement))

    seen = read_bundle(request(None, attribute(ATTESTATION_ATTRIBUTE, bundle)))

    assert seen == Bundle(statements=(cmw(b"x"),))


def test_attestation_carried_twice_is_refused() -> None:
    one = attribute(ATTESTATION_ATTRIBUTE, encode_bundle(WHOLE))
    two_values = attribute(ATTESTATION_ATTRIBUTE, encode_bundle(WHOLE), encode_bundle(WHOLE))

    for raw, words in ((request(WHOLE, one), "more than once"), (request(None, two_values), "2")):
        error = refused(raw)
        assert error.code is RefusalCode.CSR_MALFORMED
        assert words in error.reason


def test_empty_bundle_is_refused() -> None:
    empty = attribute(ATTESTATION_ATTRIBUTE, der.write(der.SEQUENCE, der.write(der.SEQUENCE)))

    assert "no statement" in refused(request(None, empty)).reason


def test_counts_and_sizes_are_bounded() -> None:
    many = Bundle(statements=(cmw(b"x"),) * (MAX_CSR_STATEMENTS + 1))
    chain = Bundle(statements=(cmw(b"x"),), certificates=(CERTIFICATE,) * 13)

    for raw in (request(many), request(chain), bytes(MAX_ATTESTED_CSR_BYTES + 1)):
        assert isinstance(refused(raw), LimitExceeded)


def test_certificates_of_a_format_that_nobody_reads_are_passed_over() -> None:
    other = der.write(0xA3, der.write(der.SEQUENCE))
    bundle = Bundle(statements=(cmw(b"x"),), certificates=(other, CERTIFICATE))

    seen = read_bundle(request(bundle))

    assert seen is not None
    assert seen.certificates == (CERTIFICATE,)
    strange = Bundle(statements=(cmw(b"x"),), certificates=(der.write(der.NULL),))
    assert "no certificate" in refused(request(strange)).reason


@pytest.mark.parametrize(
    "content", [b"", b"\x30\x00", b"\x04\x01x", b"\x30\x03\x04\x01x\x05\x00", b"\x30\x80"]
)
def test_statement_that_is_not_what_its_type_says_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedInput):
        read_tpm_certify(Statement(type=TPM_CERTIFY, content=content))


def test_cmw_in_its_json_form_is_refused() -> None:
    with pytest.raises(MalformedInput):
        read_cmw(Statement(type=CMW, content=der.write(0x0C, b"[]")))


HONEST = request(WHOLE)
"""One request: each has a signature of its own, and not each the same size."""


@given(st.integers(min_value=0, max_value=len(HONEST) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_a_value_or_our_error(place: int, value: int) -> None:
    raw = bytearray(HONEST)
    raw[place] = value

    with contextlib.suppress(InputError):
        seen = read_bundle(bytes(raw))
        assert seen is None or seen.statements


@given(st.integers(0, 2**90))
def test_written_integers_are_those_of_the_library(value: int) -> None:
    element = der.DerReader(der.write_integer(value), "x").next("x")

    assert der.integer(element) == value
    assert der.is_minimal(element)


@given(st.lists(st.integers(0, 2**70), max_size=6), st.integers(0, 2))
def test_written_identifiers_are_read_back(arcs: list[int], top: int) -> None:
    dotted = ".".join(map(str, (top, 5, *arcs)))

    assert der.oid(der.DerReader(der.write_oid(dotted), "x").next("x")) == dotted


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_written_lengths_are_the_shortest(size: int) -> None:
    reader = der.DerReader(der.write(der.OCTET_STRING, bytes(size)), "x")

    assert hashlib.sha256(reader.next("x").body).digest() == hashlib.sha256(bytes(size)).digest()
    reader.end()
