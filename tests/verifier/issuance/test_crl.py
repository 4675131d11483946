"""Revocation lists as RFC 5280 wants them, and as openssl believes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import MalformedInput
from attestation.identity import DeviceId
from tests.simulators.relying_party import openssl
from tests.simulators.soft_ca import soft_ca
from verifier.issuance.crl import ListTerms, revocation_list
from verifier.issuance.profiles import Issuer, certificate_serial, ldevid_certificate
from verifier.issuance.publication import Publication
from verifier.issuance.reasons import Reason, parse_reason, reason_word

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
}


def made(
    issuer: Issuer, rows: Sequence[tuple[int, datetime, int]], number: int = 7, at: datetime = NOW
) -> bytes:
    terms = ListTerms(number=number, this_update=at, next_update=at + DAY)
    return revocation_list(issuer, rows, terms)


def certificate(issuer: Issuer, serial: int, at: datetime = NOW) -> x509.Certificate:
    return ldevid_certificate(
        DeviceId("sn-1"),
        "SN-1",
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        issuer,
        trust_domain="fleet.example",
        serial=serial,
        at=at,
        lifetime=DAY,
    )


@pytest.mark.parametrize("kind", KEYS)
def test_openssl_refuses_the_listed_certificate_and_takes_the_other(
    kind: str, tmp_path: Path
) -> None:
    issuer = soft_ca(NOW, KEYS[kind]())
    bad, good = (certificate(issuer, certificate_serial(bytes([n]) * 16)) for n in (1, 2))
    (tmp_path / "ca.pem").write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "list.crl").write_bytes(made(issuer, [(bad.serial_number, NOW, 9)]))
    for name, one in (("bad", bad), ("good", good)):
        (tmp_path / f"{name}.pem").write_bytes(one.public_bytes(Encoding.PEM))

    shown = openssl(
        *("crl", "-inform", "DER", "-in", tmp_path / "list.crl", "-text"),
        *("-CAfile", tmp_path / "ca.pem", "-out", tmp_path / "list.pem"),
    )
    verdicts = {
        name: openssl(
            *("verify", "-crl_check", "-x509_strict", "-CAfile", tmp_path / "ca.pem"),
            *("-CRLfile", tmp_path / "list.pem", tmp_path / f"{name}.pem"),
        ).stdout
        for name in ("bad", "good")
    }

    assert "verify OK" in shown.stdout
    assert "certificate revoked" in verdicts["bad"]
    assert verdicts["good"].endswith("good.pem: OK\n")


def test_list_says_number_moments_issuer_key_scope_and_reasons() -> None:
    issuer = soft_ca(NOW)
    rows = [(2**128 + number, NOW - DAY, reason) for number, reason in enumerate(Reason)]

    found = x509.load_der_x509_crl(made(issuer, rows, number=2**40))

    assert found.is_signature_valid(issuer.certificate.public_key())  # type: ignore[arg-type]
    assert found.issuer == issuer.certificate.subject
    assert found.last_update_utc == NOW.replace(microsecond=0)
    assert found.next_update_utc == (NOW + DAY).replace(microsecond=0)
    extensions = found.extensions
    assert extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2**40
    key = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert key == own.value.key_identifier
    scope = extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert scope.critical
    assert scope.value.only_contains_user_certs
    assert [one.serial_number for one in found] == [row[0] for row in rows]
    told = [
        one.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        if len(one.extensions)
        else "unspecified"
        for one in found
    ]
    assert told == [one.word for one in Reason]
    assert len(found[0].extensions) == 0  # RFC 5280, 5.3.1: absent rather than unspecified


def test_list_of_nothing_has_no_empty_sequence() -> None:
    found = x509.load_der_x509_crl(made(soft_ca(NOW), []))

    assert len(found) == 0


def test_times_from_2050_on_are_generalized() -> None:
    late = datetime(2050, 1, 1, tzinfo=UTC)

    found = x509.load_der_x509_crl(made(soft_ca(NOW), [(2**128, late, 0)], at=late))

    assert found.last_update_utc == late
    assert found[0].revocation_date_utc == late


def test_list_that_would_end_before_it_begins_is_not_made() -> None:
    with pytest.raises(ValueError, match="end before it begins"):
        revocation_list(soft_ca(NOW), [], ListTerms(number=1, this_update=NOW, next_update=NOW))


def test_certificates_tell_where_they_can_be_checked_if_the_owner_says() -> None:
    silent = soft_ca(NOW)
    telling = Issuer(
        certificate=silent.certificate,
        key=silent.key,
        publication=Publication("http://pki.example:8080/fleet"),
    )
    serial = certificate_serial(b"\x05" * 16)

    told = certificate(telling, serial).extensions

    places = told.get_extension_for_class(x509.CRLDistributionPoints).value
    assert places[0].full_name is not None
    assert places[0].full_name[0].value.startswith("http://pki.example:8080/fleet/pki/v1/crl/")
    access = told.get_extension_for_class(x509.AuthorityInformationAccess).value
    urls = [one.access_location.value for one in access]
    assert urls[0] == "http://pki.example:8080/fleet/pki/v1/ocsp"
    assert urls[1].endswith(".cer")
    with pytest.raises(x509.ExtensionNotFound):
        certificate(silent, serial).extensions.get_extension_for_class(x509.CRLDistributionPoints)


def test_reasons_have_the_names_of_the_standard() -> None:
    assert [one.word for one in Reason] == [
        "unspecified",
        "keyCompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "privilegeWithdrawn",
    ]
    assert parse_reason("keycompromise") is Reason.KEY_COMPROMISE
    assert (reason_word(9), reason_word(77)) == ("privilegeWithdrawn", "77")
    with pytest.raises(MalformedInput, match="known are unspecified"):
        parse_reason("certificateHold")
