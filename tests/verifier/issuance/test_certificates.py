"""The certificates that we sign, and the manufacture requests behind two of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from attestation.certificates import check_iak_profile, check_idevid_profile, hardware_module
from attestation.ek.certificate import parse_maker_certificate
from attestation.errors import InputError, VerificationError
from attestation.refusals import RefusalCode as Code
from attestation.tpm.csr_idevid import (
    TcgCsrIdevid,
    TcgCsrIdevidContent,
    build_content,
    parse_content,
)
from device_agent.ports import KeyRole
from tests.simulators import soft_tpm_maker
from tests.simulators.soft_device import SoftTpm
from tests.verifier.appraisal.courtroom import NOW
from tests.verifier.issuance.factory_floor import FactoryFloor, owner_ca
from verifier.endorsement.trust_anchors import ChainProfile, TrustAnchors
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.issuance.enrol import device_id_from_serial, issue_ldevid
from verifier.issuance.manufacture import EkTerms, issue_identity, judge_manufacture
from verifier.issuance.profiles import Issuer, certificate_serial

SERIAL = certificate_serial(b"\xab" * 16)
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def ldevid() -> x509.Certificate:
    return issued()


def issued(
    at: datetime = NOW, lifetime: timedelta = WEEK, serial: int = SERIAL
) -> x509.Certificate:
    accepted = FactoryFloor().enrol()
    return issue_ldevid(
        accepted, owner_ca(), trust_domain="fleet.example", serial=serial, at=at, lifetime=lifetime
    )


def test_enrolled_device_gets_its_id_from_the_manufacturers_serial() -> None:
    accepted = FactoryFloor().enrol()

    assert accepted.device == "box-0042"
    assert accepted.hardware_serial == "BOX-0042"
    assert accepted.enrolment.last_seen is not None


def test_ldevid_names_the_device_and_nothing_that_its_csr_said(ldevid: x509.Certificate) -> None:
    names = {one.oid: one.value for one in ldevid.subject}
    uris = ldevid.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names == {NameOID.COMMON_NAME: "box-0042", NameOID.SERIAL_NUMBER: "BOX-0042"}
    assert list(uris) == [x509.UniformResourceIdentifier("spiffe://fleet.example/device/box-0042")]


def test_ldevid_serves_tls_clients_and_nothing_else(ldevid: x509.Certificate) -> None:
    extensions = ldevid.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)

    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (
        True,
        True,
        False,
    )
    assert (constraints.critical, constraints.value.ca) == (True, False)


def test_ldevid_is_signed_by_its_issuer_and_points_to_its_key(ldevid: x509.Certificate) -> None:
    ca = owner_ca().certificate
    ldevid.verify_directly_issued_by(ca)
    authority = ldevid.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value

    assert authority.key_identifier == own.digest
    assert ldevid.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER)


def test_ldevid_begins_a_little_early_and_ends_on_time(ldevid: x509.Certificate) -> None:
    assert ldevid.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert ldevid.not_valid_after_utc == NOW + WEEK


def test_ldevid_ends_no_later_than_its_issuer() -> None:
    long = issued(lifetime=timedelta(days=3650))

    assert long.not_valid_after_utc == owner_ca().certificate.not_valid_after_utc


def test_expired_issuer_signs_nothing() -> None:
    with pytest.raises(ValueError, match="not valid at this moment"):
        issued(at=NOW + timedelta(days=400))


@pytest.mark.parametrize("serial", [0, 1, 2**63 - 1, 2**159])
def test_guessable_or_overlong_serial_is_refused(serial: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        issued(serial=serial)


def test_certificate_serial_holds_all_its_entropy() -> None:
    assert certificate_serial(bytes(15) + b"\x01") - certificate_serial(bytes(16)) == 1
    assert certificate_serial(bytes(16)).bit_length() == 129
    with pytest.raises(ValueError, match="16"):
        certificate_serial(b"short")


def test_issuer_whose_key_is_not_its_certificates_is_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        Issuer(certificate=owner_ca().certificate, key=ec.generate_private_key(ec.SECP256R1()))


def test_device_certificate_is_no_issuer() -> None:
    floor = FactoryFloor()
    certificate = x509.load_der_x509_certificate(floor.idevid())

    with pytest.raises(ValueError, match="not a CA"):
        Issuer(certificate=certificate, key=floor.tpm.keys[KeyRole.IDEVID].private)


@pytest.mark.parametrize(
    ("serial", "device"),
    [
        ("BOX-0042", "box-0042"),
        ("  a__B//c ", "a-b-c"),
        ("123.456:789", "123-456-789"),
        ("Ä1", "1"),
        ("x" * 63, "x" * 63),
    ],
)
def test_serial_becomes_a_device_id(serial: str, device: str) -> None:
    assert device_id_from_serial(serial) == device


@pytest.mark.parametrize("serial", ["", "---", "ÄÖ", "x" * 64])
def test_serial_that_gives_no_device_id_is_refused(serial: str) -> None:
    with pytest.raises(InputError) as caught:
        device_id_from_serial(serial)

    assert caught.value.code is Code.DEVICE_ID_INVALID


# --- manufacture ---------------------------------------------------------------------------


def manufacture_request(tpm: SoftTpm, **changes: bytes) -> TcgCsrIdevid:
    certify = tpm.certify(KeyRole.IDEVID, b"")
    content = TcgCsrIdevidContent(
        **{  # type: ignore[arg-type]
            "hash": tpm.keys[KeyRole.IDEVID].name_alg,
            "product_model": b"Edge Box",
            "product_serial": b"EB-77",
            "ek_certificate": b"",
            "iak_public": tpm.public_area(KeyRole.IAK),
            "idevid_public": tpm.public_area(KeyRole.IDEVID),
            "idevid_certify": certify.attest,
            "idevid_certify_signature": certify.signature,
        }
        | changes
    )
    raw = build_content(content, entropy=bytes(16))
    signature = tpm.keys[KeyRole.IDEVID].sign(raw)
    return TcgCsrIdevid(raw_content=raw, content=parse_content(raw), signature=signature)


def maker_ca(floor: FactoryFloor) -> Issuer:
    return Issuer(certificate=floor.maker.root, key=floor.maker._root_key)


def test_manufactured_certificates_are_endorsed_and_name_one_device() -> None:
    floor, tpm = FactoryFloor(), SoftTpm()
    accepted = judge_manufacture(manufacture_request(tpm), inventory={"EB-77"})

    made = issue_identity(accepted, maker_ca(floor), serials=(SERIAL, SERIAL + 1), at=NOW)

    check_idevid_profile(made.idevid)
    check_iak_profile(made.iak)
    assert hardware_module(made.idevid) == hardware_module(made.iak) is not None
    assert made.iak.not_valid_after_utc == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    anchors = TrustAnchors.from_pem(floor.maker.root_pem)
    for certificate, profile in (
        (made.idevid, ChainProfile.IDEVID),
        (made.iak, ChainProfile.IAK),
    ):
        assert anchors.validate((certificate.public_bytes(Encoding.DER),), NOW, profile)


def test_manufactured_device_can_enrol() -> None:
    floor = FactoryFloor()
    accepted = judge_manufacture(manufacture_request(floor.tpm))
    made = issue_identity(accepted, maker_ca(floor), serials=(SERIAL, SERIAL + 1), at=NOW)
    floor.tpm.certificates = {
        KeyRole.IDEVID: made.idevid.public_bytes(Encoding.DER),
        KeyRole.IAK: made.iak.public_bytes(Encoding.DER),
    }

    assert floor.enrol().device == "eb-77"


def manufacture_refusal(request: TcgCsrIdevid, inventory: set[str] | None = None) -> Code:
    with pytest.raises(VerificationError) as caught:
        judge_manufacture(request, inventory=inventory)
    return caught.value.code


def endorsed_request(leaf: bytes) -> TcgCsrIdevid:
    return manufacture_request(SoftTpm(), ek_certificate=leaf)


def ek_terms(*, required: bool = False) -> EkTerms:
    roots = VendorRoots(roots=(parse_maker_certificate(TPM_MAKER.der),))
    return EkTerms(roots=roots, required=required)


TPM_MAKER = soft_tpm_maker.root()


@pytest.mark.parametrize("padding", [b"", bytes(40)])
def test_ek_certificate_of_a_request_is_judged_as_it_stands_in_nv(padding: bytes) -> None:
    request = endorsed_request(soft_tpm_maker.ek(TPM_MAKER) + padding)

    accepted = judge_manufacture(request, ek=ek_terms(required=True), at=NOW)

    assert accepted.ek is not None
    assert accepted.ek.maker.manufacturer == "IFX"
    assert judge_manufacture(request).ek is None


def test_ek_certificate_of_a_foreign_maker_refuses_the_request() -> None:
    """N44."""
    request = endorsed_request(soft_tpm_maker.ek(soft_tpm_maker.root("Foreign")))

    with pytest.raises(VerificationError) as caught:
        judge_manufacture(request, ek=ek_terms(), at=NOW)

    assert caught.value.code is Code.EK_CERTIFICATE_UNTRUSTED


def test_request_without_an_ek_certificate_is_taken_unless_the_line_wants_one() -> None:
    """N44."""
    request = endorsed_request(b"")

    assert judge_manufacture(request, ek=ek_terms(), at=NOW).ek is None
    with pytest.raises(VerificationError) as caught:
        judge_manufacture(request, ek=ek_terms(required=True), at=NOW)
    assert caught.value.code is Code.MANUFACTURE_REQUEST_INVALID


def test_serial_outside_the_inventory_is_refused() -> None:
    """N44."""
    code = manufacture_refusal(manufacture_request(SoftTpm()), inventory={"EB-78"})

    assert code is Code.MANUFACTURE_REQUEST_INVALID


@pytest.mark.parametrize("serial", [b"", b"\xff", b"-", b"x" * 65, b"a\nb"])
def test_unusable_product_serial_is_refused(serial: bytes) -> None:
    code = manufacture_refusal(manufacture_request(SoftTpm(), product_serial=serial))

    assert code is Code.MANUFACTURE_REQUEST_INVALID


def test_manufacture_request_signed_by_another_key_is_refused() -> None:
    request = replace(
        manufacture_request(SoftTpm()), signature=manufacture_request(SoftTpm()).signature
    )

    assert manufacture_refusal(request) is Code.QUOTE_SIGNATURE_INVALID


def test_manufacture_request_whose_iak_certified_another_key_is_refused() -> None:
    tpm = SoftTpm()
    certify = tpm.certify(KeyRole.IAK, b"")

    code = manufacture_refusal(
        manufacture_request(
            tpm, idevid_certify=certify.attest, idevid_certify_signature=certify.signature
        )
    )

    assert code is Code.MANUFACTURE_REQUEST_INVALID
