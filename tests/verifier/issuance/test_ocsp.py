"""OCSP: hostile requests are malformed, answers are believed by openssl."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.der import OCTET_STRING, SEQUENCE, write, write_integer, write_oid
from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.identity import DeviceId
from attestation.limits import MAX_OCSP_CERTIFICATES, MAX_OCSP_REQUEST_BYTES
from tests.simulators.soft_ca import soft_ca
from verifier.issuance.ocsp import NONCE, parse_ocsp_request
from verifier.issuance.ocsp_answer import (
    ANSWER_LIFETIME,
    RESPONDER_LIFETIME,
    Good,
    OcspFailure,
    Responder,
    Revoked,
    Status,
    names,
    ocsp_answer,
    ocsp_failure,
    responder_certificate,
)
from verifier.issuance.profiles import certificate_serial, ldevid_certificate

NOW = datetime.now(UTC)
CA = soft_ca(NOW)
OTHER = soft_ca(NOW, name="Other CA")
KEY = ec.generate_private_key(ec.SECP256R1())
LEAF = ldevid_certificate(
    DeviceId("sn-1"),
    "SN-1",
    KEY.public_key(),
    CA,
    trust_domain="fleet.example",
    serial=certificate_serial(b"\x01" * 16),
    at=NOW,
    lifetime=timedelta(days=1),
)
RESPONDER = Responder(
    certificate=responder_certificate(
        CA, KEY.public_key(), serial=certificate_serial(b"\x02" * 16), at=NOW
    ),
    key=KEY,
)


def question(nonce: bytes | None = None, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        LEAF, CA.certificate, algorithm or hashes.SHA256()
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def cert_id(serial: int = 1, size: int = 32) -> bytes:
    sha256 = write(SEQUENCE, write_oid("2.16.840.1.101.3.4.2.1"))
    digests = write(OCTET_STRING, bytes(size)) * 2
    return write(SEQUENCE, sha256, digests, write_integer(serial))


def request(*ids: bytes, extensions: bytes = b"") -> bytes:
    listed = write(SEQUENCE, *(write(SEQUENCE, one) for one in ids))
    told = write(0xA2, write(SEQUENCE, extensions)) if extensions else b""
    return write(SEQUENCE, write(SEQUENCE, listed, told))


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = b"\x01\x01\xff" if critical else b""
    return write(SEQUENCE, write_oid(oid), flag, write(OCTET_STRING, value))


def answered(status: Status, *, nonce: bytes | None = None) -> ocsp.OCSPResponse:
    asked = parse_ocsp_request(question(nonce))
    return ocsp.load_der_ocsp_response(
        ocsp_answer(RESPONDER, asked.certificates, {0: status}, nonce=asked.nonce, at=NOW)
    )


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])  # noqa: S303 - names, no proof
def test_question_names_its_issuer_by_either_hash(algorithm: hashes.HashAlgorithm) -> None:
    asked = parse_ocsp_request(question(algorithm=algorithm)).certificates

    assert [one.serial for one in asked] == [LEAF.serial_number]
    assert names(CA.certificate, asked[0])
    assert not names(OTHER.certificate, asked[0])


def test_question_by_another_hash_is_about_nobody() -> None:
    asked = parse_ocsp_request(question(algorithm=hashes.SHA512())).certificates

    assert not names(CA.certificate, asked[0])


@pytest.mark.parametrize("size", [1, 16, 32])
def test_nonce_is_repeated(size: int) -> None:
    found = answered(Good(), nonce=bytes(range(size)))

    extension_ = found.extensions.get_extension_for_class(x509.OCSPNonce)
    assert extension_.value.nonce == bytes(range(size))


@pytest.mark.parametrize("size", [33, 128])
def test_longer_nonce_is_answered_without(size: int) -> None:
    assert len(answered(Good(), nonce=bytes(size)).extensions) == 0


@pytest.mark.parametrize("size", [0, 129])
def test_nonce_of_no_or_too_many_bytes_is_malformed(size: int) -> None:
    with pytest.raises(MalformedInput, match=f"nonce has {size} bytes"):
        parse_ocsp_request(
            request(cert_id(), extensions=extension(NONCE, write(OCTET_STRING, bytes(size))))
        )


def test_answer_says_good_revoked_and_unknown() -> None:
    good, revoked, unknown = (
        answered(one) for one in (Good(), Revoked(NOW - timedelta(hours=1), 9), None)
    )

    assert good.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert unknown.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    assert revoked.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert revoked.revocation_reason is x509.ReasonFlags.privilege_withdrawn
    assert revoked.revocation_time_utc == (NOW - timedelta(hours=1)).replace(microsecond=0)
    assert good.this_update_utc == NOW.replace(microsecond=0)
    assert good.next_update_utc == NOW.replace(microsecond=0) + ANSWER_LIFETIME
    assert good.serial_number == LEAF.serial_number


def test_unspecified_reason_is_not_told() -> None:
    assert answered(Revoked(NOW, 0)).revocation_reason is None


def test_answer_is_signed_by_the_responder_that_the_ca_delegated() -> None:
    found = answered(Good())

    KEY.public_key().verify(found.signature, found.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    (delegate,) = found.certificates
    delegate.verify_directly_issued_by(CA.certificate)
    usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert delegate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    assert delegate.not_valid_after_utc <= NOW + RESPONDER_LIFETIME
    spki = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert found.responder_key_hash == hashlib.sha1(spki, usedforsecurity=False).digest()


def test_responder_of_a_ca_that_has_ended_is_not_made() -> None:
    with pytest.raises(ValueError, match="not valid at this moment"):
        responder_certificate(CA, KEY.public_key(), serial=2**128, at=NOW + timedelta(days=400))


def test_several_questions_are_answered_in_order() -> None:
    asked = parse_ocsp_request(request(cert_id(5), cert_id(6), cert_id(7))).certificates

    body = ocsp_answer(RESPONDER, asked, {0: Good(), 2: Revoked(NOW, 4)}, nonce=None, at=NOW)

    found = list(ocsp.load_der_ocsp_response(body).responses)
    assert [one.serial_number for one in found] == [5, 6, 7]
    assert [one.certificate_status.name for one in found] == ["GOOD", "UNKNOWN", "REVOKED"]


@pytest.mark.parametrize("why", OcspFailure)
def test_failures_are_answers_without_a_signature(why: OcspFailure) -> None:
    found = ocsp.load_der_ocsp_response(ocsp_failure(why))

    assert found.response_status.value == why


HOSTILE = {
    "nothing": b"",
    "no-der": b"\xff\xfe",
    "bytes-behind": question() + b"\x00",
    "asks-for-nothing": request(),
    "version-2": write(SEQUENCE, write(SEQUENCE, write(0xA0, write_integer(1)), write(SEQUENCE))),
    "critical-extension": request(cert_id(), extensions=extension("1.2.3", b"", critical=True)),
    "extension-twice": request(cert_id(), extensions=extension("1.2.3", b"") * 2),
    "nonce-no-octet-string": request(cert_id(), extensions=extension(NONCE, b"\x02\x01\x01")),
    "serial-too-long": request(cert_id(2**400)),
    "cut": question()[:-3],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_request_is_malformed(name: str) -> None:
    with pytest.raises(InputError):
        parse_ocsp_request(HOSTILE[name])


def test_request_beyond_its_bounds_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="certificates are asked for"):
        parse_ocsp_request(request(*[cert_id()] * (MAX_OCSP_CERTIFICATES + 1)))
    with pytest.raises(LimitExceeded, match="bytes, at most"):
        parse_ocsp_request(bytes(MAX_OCSP_REQUEST_BYTES + 1))
