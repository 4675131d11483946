"""Manufacture on a real (software) TPM: request out, certificates in, any step twice."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import parse, prove_device_keys
from attestation.tpm.public import parse_public
from attestation.tpm.templates import KeyTemplate
from deploy.demo.swtpm import SoftwareTpm
from device_agent import factory
from device_agent.errors import CertificateUnusable, SettingsInvalid, SourceUnreadable, TpmRefused
from device_agent.factory import FactoryTpm
from device_agent.ports import KeyRole, Tpm
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout
from device_agent.tpm.nv import one_der_object
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.swtpm import Manufactured

pytestmark = pytest.mark.tpm

ENTROPY = bytes(16)
BOTH = (KeyRole.IDEVID, KeyRole.IAK)


def issue(tpm: Tpm, authority: SoftManufacturer, role: KeyRole) -> bytes:
    key = parse_public(tpm.public_area(role)).key
    return authority.issue(role, key, "SN-0001")


@pytest.fixture(scope="module")
def authority() -> SoftManufacturer:
    return SoftManufacturer()


def test_a_request_proves_both_keys_and_carries_the_ek_certificate(
    endorsed_swtpm: SoftwareTpm,
) -> None:
    tpm: FactoryTpm = EsapiTpm(endorsed_swtpm.tcti)
    assert factory.status(tpm) == factory.ManufactureStatus(
        keys=(), certificates=(), ek_certificate=True
    )
    request = parse(factory.make_request(tpm, model="Board 7", serial="SN-0001", entropy=ENTROPY))
    keys = prove_device_keys(request)
    assert keys.iak.raw == tpm.public_area(KeyRole.IAK)
    assert keys.idevid.raw == tpm.public_area(KeyRole.IDEVID)
    assert request.content.product_model == b"Board 7"
    assert request.content.product_serial == b"SN-0001"
    ek = x509.load_der_x509_certificate(request.content.ek_certificate)
    assert isinstance(ek.public_key(), ec.EllipticCurvePublicKey)
    assert factory.status(tpm).keys == BOTH


def test_a_request_without_an_ek_certificate_says_so_by_an_empty_field(swtpm: SoftwareTpm) -> None:
    tpm = EsapiTpm(swtpm.tcti, layout=TpmLayout(template=KeyTemplate.P_384))
    request = parse(factory.make_request(tpm, model="m", serial="s", entropy=ENTROPY))
    assert request.content.ek_certificate == b""
    assert prove_device_keys(request).idevid.name_alg.label == "sha384"
    tpm.close()


@pytest.mark.parametrize(
    ("model", "serial"), [("", "s"), ("m", ""), ("m", "ü"), ("m\n", "s"), ("m", "s" * 65)]
)
def test_a_product_that_cannot_stand_in_a_certificate_is_refused(
    tpm: EsapiTpm, model: str, serial: str
) -> None:
    with pytest.raises(SettingsInvalid, match="printable ASCII"):
        factory.make_request(tpm, model=model, serial=serial, entropy=ENTROPY)


def test_install_writes_both_certificates_and_may_be_repeated(
    tpm: EsapiTpm, authority: SoftManufacturer
) -> None:
    idevid, iak = (issue(tpm, authority, role) for role in BOTH)
    assert tpm.certificate(KeyRole.IDEVID) is None
    for _ in range(2):
        status = factory.install(
            tpm, idevid_chain_der=[idevid, authority.root_der], iak_chain_der=[iak]
        )
        assert status.complete
    assert (tpm.certificate(KeyRole.IDEVID), tpm.certificate(KeyRole.IAK)) == (idevid, iak)


def test_a_new_certificate_of_another_size_replaces_the_old_one(
    tpm: EsapiTpm, authority: SoftManufacturer
) -> None:
    idevid, iak = (issue(tpm, authority, role) for role in BOTH)
    factory.install(tpm, idevid_chain_der=[idevid], iak_chain_der=[iak])
    key = parse_public(tpm.public_area(KeyRole.IAK)).key
    longer = authority.issue(KeyRole.IAK, key, "SN-0001-of-another-length")
    factory.install(tpm, idevid_chain_der=[idevid], iak_chain_der=[longer])
    assert tpm.certificate(KeyRole.IAK) == longer


def test_install_completes_what_a_power_cut_left(
    tpm: EsapiTpm, swtpm: SoftwareTpm, authority: SoftManufacturer
) -> None:
    idevid, iak = (issue(tpm, authority, role) for role in BOTH)
    tpm.write_certificate(KeyRole.IDEVID, idevid[:300] + bytes(len(idevid) - 300))
    tpm.write_certificate(KeyRole.IAK, bytes(len(iak)))  # defined, nothing sensible in it
    with pytest.raises(SourceUnreadable, match="0x01c90001 does not hold a whole DER"):
        tpm.certificate(KeyRole.IAK)
    assert not factory.status(tpm).complete
    swtpm.power_cycle(orderly=False)
    assert factory.install(tpm, idevid_chain_der=[idevid], iak_chain_der=[iak]).complete
    assert tpm.certificate(KeyRole.IDEVID) == idevid


def test_certificates_for_other_keys_are_refused_before_anything_is_written(
    tpm: EsapiTpm, authority: SoftManufacturer
) -> None:
    idevid, iak = (issue(tpm, authority, role) for role in BOTH)
    for chains, code in (
        (([idevid], [idevid]), RefusalCode.CERTIFICATE_KEY_MISMATCH),
        (([iak], [iak]), RefusalCode.CERTIFICATE_KEY_MISMATCH),
        (([idevid], []), RefusalCode.CERTIFICATE_MALFORMED),
        (([idevid], [b"\x30\x00"]), RefusalCode.CERTIFICATE_MALFORMED),
    ):
        with pytest.raises(CertificateUnusable) as refused:
            factory.install(tpm, idevid_chain_der=chains[0], iak_chain_der=chains[1])
        assert refused.value.code is code
    assert tpm.certificate(KeyRole.IDEVID) is None


def test_a_certificate_for_another_key_in_nv_is_not_counted(
    tpm: EsapiTpm, authority: SoftManufacturer
) -> None:
    tpm.write_certificate(KeyRole.IDEVID, issue(tpm, authority, KeyRole.IAK))
    status = factory.status(tpm)
    assert status.keys == BOTH
    assert status.certificates == ()
    assert not status.complete


def test_a_certificate_larger_than_an_nv_index_is_refused(tpm: EsapiTpm) -> None:
    with pytest.raises(TpmRefused, match="3000 bytes and one NV index of this TPM holds 2048"):
        tpm.write_certificate(KeyRole.IAK, bytes(3000))


def test_padding_behind_the_certificate_is_cut(tpm: EsapiTpm, authority: SoftManufacturer) -> None:
    certificate = issue(tpm, authority, KeyRole.IAK)
    tpm.write_certificate(KeyRole.IAK, certificate + b"\xff" * 1200)  # several blocks
    assert tpm.certificate(KeyRole.IAK) == certificate


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (b"\x30\x02\x05\x00\xff", b"\x30\x02\x05\x00"),
        (b"\x30\x81\x80" + bytes(129), b"\x30\x81\x80" + bytes(128)),
        (b"\x30\x82\x01\x00" + bytes(256), b"\x30\x82\x01\x00" + bytes(256)),
        (b"\x30\x82\x01\x00" + bytes(255), None),
        (b"\x30\x84\x00\x00\x00\x01\x00", None),
        (b"\x30\x80\x00\x00", None),
        (b"\x30\x00", None),
        (b"\x31\x02\x05\x00", None),
        (b"\x30", None),
        (b"", None),
        (b"\xff" * 800, None),
    ],
)
def test_one_der_object_is_exact(content: bytes, cut: bytes | None) -> None:
    if cut is None:
        with pytest.raises(SourceUnreadable):
            one_der_object(content, "NV")
    else:
        assert one_der_object(content, "NV") == cut


def test_a_copy_of_a_manufactured_tpm_can_enrol_at_once(
    manufactured: Manufactured, manufactured_swtpm: SoftwareTpm
) -> None:
    tpm = EsapiTpm(manufactured_swtpm.tcti)
    assert factory.status(tpm).complete
    shown = x509.load_der_x509_certificate(tpm.certificate(KeyRole.IDEVID) or b"")
    shown.verify_directly_issued_by(manufactured.manufacturer.root)
    tpm.close()
