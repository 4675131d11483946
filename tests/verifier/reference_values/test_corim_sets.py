"""Whose signature a CoRIM must bear, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from attestation.errors import AttestationError, SignatureInvalid, UntrustedEndorsement
from attestation.refusals import RefusalCode
from attestation.wire.corim import SignedCorim, open_corim
from attestation.wire.strict_cbor import Tagged, encode
from tests.simulators.corim_press import protected_header, public_pem, signed
from verifier.reference_values.corim_sets import Signer, load_signer, open_signed, sets_of

AT = datetime(2026, 3, 1, tzinfo=UTC)
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def certificate(begin: datetime, end: datetime) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CoRIM signer")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(OTHER, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def message(begin: datetime | None = None, end: datetime | None = None) -> SignedCorim:
    validity = {
        key: Tagged(1, int(when.timestamp()))
        for key, when in ((0, begin), (1, end))
        if when is not None
    }
    meta = {0: {0: "ACME Ltd."}, **({1: validity} if validity else {})}
    found = open_corim(signed(KEY, protected=protected_header(label_8=encode(meta))))
    assert isinstance(found, SignedCorim)
    return found


def signer(key: ec.EllipticCurvePrivateKey, name: str = "acme") -> Signer:
    return load_signer(public_pem(key), name, AT)


def test_right_one_of_several_signers_is_named() -> None:
    corim, who = open_signed(message(), [signer(OTHER, "other"), signer(KEY)], AT)

    assert who.name == "acme"
    (one,) = sets_of(corim, who, AT)
    assert one.description == "CoRIM acme-2026-03, tag roadrunner-fw version 3, signed by acme"
    assert one.reviewed
    (unsigned,) = sets_of(corim, None, AT)
    assert unsigned.to_review == {0, 4}


@pytest.mark.parametrize("others", [[], ["other"]])
def test_corim_that_none_of_them_signed_is_refused(others: list[str]) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        open_signed(message(), [signer(OTHER, name) for name in others], AT)
    assert caught.value.code is RefusalCode.CORIM_SIGNER_UNKNOWN


@pytest.mark.parametrize(
    ("begin", "end"),
    [(None, AT), (AT + timedelta(seconds=1), AT + timedelta(days=1))],
)
def test_signature_of_another_time_is_refused(begin: datetime | None, end: datetime) -> None:
    with pytest.raises(UntrustedEndorsement) as caught:
        open_signed(message(begin, end), [signer(KEY)], AT)
    assert caught.value.code is RefusalCode.REFERENCE_NOT_IN_FORCE


def test_signature_within_its_time_is_taken() -> None:
    assert open_signed(message(AT, AT + timedelta(seconds=1)), [signer(KEY)], AT)


def test_pinned_certificate_is_taken_in_its_time_only() -> None:
    pem = certificate(AT, AT + timedelta(days=1))

    assert open_signed(message(), [load_signer(pem, "acme", AT)], AT)
    for at in (AT - timedelta(seconds=1), AT + timedelta(days=1, seconds=1)):
        with pytest.raises(UntrustedEndorsement):
            load_signer(pem, "acme", at)


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        x25519.X25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        "x" * (16 * 1024 + 1),
    ],
)
def test_what_is_no_signing_key_is_refused(pem: str) -> None:
    with pytest.raises(AttestationError) as caught:
        load_signer(pem, "acme", AT)
    assert caught.value.code is RefusalCode.KEY_MALFORMED
