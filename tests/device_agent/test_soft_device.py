"""The software TPM says what a TPM says: tpm2-pytss and our own readers agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from attestation.algorithms import HashAlgorithm
from attestation.certificates import check_iak_profile, check_idevid_profile, device_serial
from attestation.errors import AttestationError, VerificationError
from attestation.evidence import Quote
from attestation.pcr import PcrSelection
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public, require_attestation_key, require_device_key
from attestation.tpm.signature import verify_attest
from device_agent.errors import TpmKeyMissing
from device_agent.ports import KeyRole
from tests.simulators.soft_device import Lies, SoftManufacturer, SoftTpm, soft_key

SELECTIONS = (PcrSelection(bank=HashAlgorithm.SHA256, indices=(0, 17)),)
KINDS = ("p256", "p384", "rsa2048", "rsa2048-ssa")


@pytest.fixture(scope="module")
def manufacturer() -> SoftManufacturer:
    return SoftManufacturer()


@pytest.mark.parametrize("kind", KINDS)
def test_tpm2_pytss_reads_the_same_structures(manufacturer: SoftManufacturer, kind: str) -> None:
    pytss = pytest.importorskip("tpm2_pytss")
    tpm = SoftTpm(manufacturer, kind=kind)
    quote = tpm.quote(SELECTIONS, b"q" * 32)

    for role in (KeyRole.IAK, KeyRole.IDEVID):
        raw = tpm.public_area(role)
        public, size = pytss.TPMT_PUBLIC.unmarshal(raw)
        assert size == len(raw)
        assert bytes(public.get_name()) == tpm.keys[role].name
    for kind_of, raw in (
        (pytss.TPMS_ATTEST, quote.attest),
        (pytss.TPMT_SIGNATURE, quote.signature),
    ):
        assert kind_of.unmarshal(raw)[1] == len(raw)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_certificates_have_the_profile(manufacturer: SoftManufacturer, kind: str) -> None:
    tpm = SoftTpm(manufacturer, kind=kind, serial="SN-9")
    tpm.create_ldevid()

    require_attestation_key(parse_public(tpm.public_area(KeyRole.IAK)))
    require_device_key(parse_public(tpm.public_area(KeyRole.IDEVID)))
    require_device_key(parse_public(tpm.public_area(KeyRole.LDEVID)))
    idevid = x509.load_der_x509_certificate(tpm.certificates[KeyRole.IDEVID])
    iak = x509.load_der_x509_certificate(tpm.certificates[KeyRole.IAK])
    check_idevid_profile(idevid)
    check_iak_profile(iak)
    assert device_serial(idevid) == device_serial(iak) == "SN-9"
    assert idevid.not_valid_after_utc.year == 9999


def believe(tpm: SoftTpm, quote: Quote) -> None:
    verify_attest(parse_public(tpm.public_area(KeyRole.IAK)), quote.attest, quote.signature)
    parse_attest(quote.attest)


@pytest.mark.parametrize(
    "lies",
    [
        Lies(sign_with=soft_key("p256", KeyRole.IAK)),
        Lies(magic=0),
        Lies(attest_type=0x8019),
        Lies(trailing=b"\x00"),
        Lies(flip_signature=True),
    ],
)
def test_each_lie_is_seen(manufacturer: SoftManufacturer, lies: Lies) -> None:
    tpm = SoftTpm(manufacturer)
    tpm.lies = lies
    quote = tpm.quote(SELECTIONS, b"q" * 32)

    with pytest.raises(AttestationError):
        believe(tpm, quote)


def test_an_unrestricted_key_is_seen(manufacturer: SoftManufacturer) -> None:
    tpm = SoftTpm(manufacturer, iak_attributes=0x000400F2)

    with pytest.raises(VerificationError):
        require_attestation_key(parse_public(tpm.public_area(KeyRole.IAK)))


def test_a_reboot_clears_pcrs_and_counts(manufacturer: SoftManufacturer) -> None:
    tpm = SoftTpm(manufacturer)
    fresh = tpm.read_pcrs(SELECTIONS)
    tpm.extend(HashAlgorithm.SHA256, 0, b"\x01" * 32)
    before = parse_attest(tpm.quote(SELECTIONS, b"").attest).clock

    tpm.reboot()

    after = parse_attest(tpm.quote(SELECTIONS, b"").attest).clock
    assert tpm.read_pcrs(SELECTIONS) == fresh
    assert after.reset_count == before.reset_count + 1
    assert after.clock_ms > before.clock_ms


def test_lies_about_the_clock_are_told(manufacturer: SoftManufacturer) -> None:
    tpm = SoftTpm(manufacturer)
    tpm.lies = replace(Lies(), clock_ms=5, reset_count=0, restart_count=9)

    clock = parse_attest(tpm.quote(SELECTIONS, b"").attest).clock

    assert (clock.clock_ms, clock.reset_count, clock.restart_count) == (5, 0, 9)


def test_a_forgotten_key_is_missing(manufacturer: SoftManufacturer) -> None:
    tpm = SoftTpm(manufacturer)
    tpm.forget(KeyRole.IAK)

    assert not tpm.has_key(KeyRole.IAK)
    with pytest.raises(TpmKeyMissing):
        tpm.quote(SELECTIONS, b"")
