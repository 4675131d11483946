"""The exchange of the LDevID key in a real (software) TPM, the certificates over real TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from attestation.tpm.public import parse_public
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import TpmKeyMissing, TpmRefused, VerifierRefused
from device_agent.main import Parts, assemble
from device_agent.once import attest_now, enrol_now, rotate_now
from device_agent.ports import LDEVID_SLOTS, KeyRole
from device_agent.settings import parse_settings
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout
from tests.integration.tpm.test_tpm_keys import NOTHING, loaded
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_simulator import VerifierSimulator, https_verifier

pytestmark = pytest.mark.tpm
ONE, TWO = LDEVID_SLOTS


def certified(tpm: EsapiTpm, manufacturer: SoftManufacturer) -> None:
    for role in (KeyRole.IDEVID, KeyRole.IAK):
        public = parse_public(tpm.public_area(role)).key
        tpm.write_certificate(role, manufacturer.issue(role, public, "SN-1"))


@pytest.fixture
def device(tpm: EsapiTpm, tmp_path: Path) -> Iterator[tuple[Parts, VerifierSimulator]]:
    """A manufactured device and a verifier that wants its certificates in TLS."""
    manufacturer, simulator = SoftManufacturer(), VerifierSimulator()
    certified(tpm, manufacturer)
    (tmp_path / "ca.pem").write_bytes(simulator.authority.pem)
    anchors = manufacturer.root_pem + simulator.authority.pem
    with https_verifier(simulator, tmp_path, client_anchors=anchors) as url:
        settings = parse_settings(
            f"""
            [verifier]
            url = "{url}"
            ca_file = "{tmp_path}/ca.pem"
            [evidence]
            firmware_log = ""
            ima_list = ""
            [state]
            directory = "{tmp_path}/state"
            """,
            "t.toml",
            {},
        )
        yield assemble(settings, tpm), simulator


def test_the_key_goes_to_and_fro_and_each_certificate_is_for_the_key_in_its_slot(
    tpm: EsapiTpm, swtpm: SoftwareTpm, device: tuple[Parts, VerifierSimulator]
) -> None:
    parts, _ = device
    enrol_now(parts)
    seen = {tpm.public_area(ONE)}
    for slot, gone in ((TWO, ONE), (ONE, TWO), (TWO, ONE)):
        done = rotate_now(parts)

        assert done.after.slot is slot
        assert done.reply.allowed
        assert not tpm.has_key(gone)
        public = tpm.public_area(slot)
        assert public not in seen
        seen.add(public)
        leaf = x509.load_pem_x509_certificate(done.after.certificate_chain_pem.encode())
        assert leaf.public_key() == parse_public(public).key
        assert attest_now(parts).allowed
    assert loaded(swtpm) == NOTHING


def test_an_interrupted_exchange_leaves_the_old_key_working_and_is_finished_later(
    tpm: EsapiTpm, device: tuple[Parts, VerifierSimulator]
) -> None:
    parts, simulator = device
    enrol_now(parts)
    simulator.fail("enrol", VerifierRefused("overloaded", "later", http_status=503))
    with pytest.raises(VerifierRefused):
        rotate_now(parts)
    unnamed = tpm.public_area(TWO)
    assert attest_now(parts).allowed

    rotate_now(parts)

    assert tpm.public_area(TWO) != unnamed
    assert not tpm.has_key(ONE)
    assert attest_now(parts).allowed


def test_a_key_is_evicted_for_good_and_twice_is_once(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    for slot in LDEVID_SLOTS:
        tpm.create_ldevid(slot)
    kept = tpm.public_area(ONE)

    tpm.evict_ldevid(TWO)
    tpm.evict_ldevid(TWO)

    assert (tpm.has_key(ONE), tpm.has_key(TWO)) == (True, False)
    with pytest.raises(TpmKeyMissing):
        tpm.sign_digest(TWO, bytes(32))
    assert tpm.public_area(ONE) == kept
    assert tpm.sign_digest(ONE, bytes(32))
    swtpm.power_cycle()
    assert not tpm.has_key(TWO)


def test_a_new_key_in_a_slot_is_signed_with_not_the_one_evicted_there(tpm: EsapiTpm) -> None:
    tpm.create_ldevid(TWO)
    tpm.sign_digest(TWO, bytes(32))
    old = tpm.public_area(TWO)
    tpm.evict_ldevid(TWO)
    tpm.create_ldevid(TWO)

    new = tpm.public_area(TWO)

    assert new != old
    request = x509.load_der_x509_csr(tpm.csr(TWO, "device", ()))
    assert request.public_key() == parse_public(new).key
    assert request.is_signature_valid


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_the_manufacturers_keys_are_not_ours_to_evict(tpm: EsapiTpm, role: KeyRole) -> None:
    with pytest.raises(ValueError, match="not ours to evict"):
        tpm.evict_ldevid(role)

    assert tpm.has_key(role)


def test_something_else_in_the_other_slot_is_not_evicted(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    confused = EsapiTpm(
        swtpm.tcti, layout=TpmLayout(iak_handle=0x81020009, ldevid_2_handle=0x81020001)
    )

    with pytest.raises(TpmRefused, match="cannot be the ldevid-2 key"):
        confused.evict_ldevid(TWO)

    confused.close()
    assert tpm.has_key(KeyRole.IAK)


def test_another_layout_keeps_its_slots_where_it_says(swtpm: SoftwareTpm) -> None:
    tpm = EsapiTpm(swtpm.tcti, layout=TpmLayout(ldevid_2_handle=0x81000077))
    tpm.create_ldevid(TWO)
    tpm.close()

    default = EsapiTpm(swtpm.tcti)
    assert not default.has_key(TWO)
    default.close()
