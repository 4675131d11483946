from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.uefi.subject import subject_of

DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def certificate(*attributes: x509.NameAttribute[str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(attributes)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 7, DAY, DAY)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(oid, value)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ([(NameOID.COUNTRY_NAME, "US"), (NameOID.COMMON_NAME, "UEFI CA")], "CN=UEFI CA,C=US"),
        ([(NameOID.ORGANIZATION_NAME, 'A, "B"')], 'O=A\\, \\"B\\"'),
        ([(NameOID.COMMON_NAME, "a\x1b[2J")], "CN=a?[2J"),
        ([(NameOID.EMAIL_ADDRESS, "a@example.org")], "emailAddress=a@example.org"),
        ([(NameOID.SURNAME, "x")], "OID.550404=x"),
        ([], ""),
    ],
)
def test_subject_is_text_last_attribute_first(
    attributes: list[tuple[x509.ObjectIdentifier, str]], text: str
) -> None:
    assert subject_of(certificate(*(attribute(*one) for one in attributes))) == text


def test_certificate_with_bytes_after_it_is_none() -> None:
    assert subject_of(certificate() + b"x") is None
