"""From contraindicated evidence to revoked everywhere, and back: with real relying parties."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.identity import DeviceId
from device_agent.ports import KeyRole
from tests.simulators.relying_party import PollingServer, admitted
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, boot_log, now
from tests.verifier.api.test_pki_routes import free_port

pytestmark = pytest.mark.system

WITHIN_S = 5.0


@dataclass
class Fleet:
    """A verifier with a plain door, one device, and a TLS server that polls the list."""

    site: VerifierSite
    device: SiteDevice
    server: PollingServer

    def admits(self) -> bool:
        context = self.site.context(
            self.device.chain_pem, self.device.tpm.keys[KeyRole.LDEVID].private
        )
        return admitted(self.server.port, context)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    extra = f'[limits]\nrequests_per_s = 1000.0\n[pki]\nurl = "{url}"\nhttp_port = {port}\n'
    with VerifierSite(tmp_path / "site", SoftManufacturer(), extra=extra) as site:
        device = site.device("FALL-1")
        assert device.enrol().status == 201
        leaf, *chain = x509.load_pem_x509_certificates(device.chain_pem)
        trust = tmp_path / "trust.pem"
        chain += site.running.services.published.authority.roots()
        trust.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
        places = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert places[0].full_name is not None
        keys = site.folder / "keys"
        with PollingServer(
            trust,
            str(places[0].full_name[0].value),
            (keys / "tls.cert.pem", keys / "tls.key.pem"),
        ) as server:
            yield Fleet(site, device, server)


def until_refused(fleet: Fleet) -> float:
    """Try again and again; return after how many seconds the server refuses."""
    began = time.monotonic()
    while fleet.admits():
        assert time.monotonic() - began < 2 * WITHIN_S
        time.sleep(0.05)
    return time.monotonic() - began


def test_device_falls_at_a_server_that_polls_and_comes_back_with_a_new_certificate(
    fleet: Fleet,
) -> None:
    device = fleet.device
    assert device.attest().json["status"] != "contraindicated"
    assert fleet.admits()
    before = device.chain_pem

    device.tamper()
    fallen = device.attest()
    took_s = until_refused(fleet)

    assert (fallen.json["status"], fallen.json["allow"]) == ("contraindicated", False)
    assert took_s < WITHIN_S
    assert device.attest().json["status"] == "contraindicated"  # it is still heard
    device.tpm.reboot()
    device.boot(boot_log())
    well = device.attest()  # and enrols again, as the daemon does
    assert well.json["status"] != "contraindicated"
    assert well.json["attest_in_s"] == 1.0
    assert device.chain_pem != before
    assert fleet.admits()


def test_fallen_certificate_attests_and_does_nothing_else(fleet: Fleet) -> None:
    device, path = fleet.device, f"/results/v1/devices/{fleet.device.device_id}"
    device.tamper()
    device.attest()

    refused = device.client.get(path)

    assert (refused.status, refused.json["code"]) == (403, "certificate-revoked")
    assert device.client.post("/attest/v1/challenges").status == 200


def test_recovered_device_is_told_to_enrol_again(fleet: Fleet) -> None:
    device = fleet.device
    device.tamper()
    device.attest()
    device.tpm.reboot()
    device.boot(boot_log())
    well = device.submit(device.evidence(device.challenge))
    assert well.status == 200

    again = device.submit(device.evidence(device.challenge))

    assert (again.status, again.json["code"]) == (403, "certificate-revoked")
    assert again.json["detail"].endswith("enrol again")
    assert device.enrol().status == 201
    assert device.client.post("/attest/v1/challenges").status == 200


def test_device_that_is_still_sick_does_not_get_a_new_certificate(fleet: Fleet) -> None:
    device = fleet.device
    device.tamper()
    device.attest()

    answer = device.enrol()

    assert (answer.status, answer.json["code"]) == (403, "evidence-not-acceptable")


def test_fallen_device_that_an_operator_revokes_is_not_heard_any_more(fleet: Fleet) -> None:
    device = fleet.device
    device.tamper()
    device.attest()
    with fleet.site.running.store.work() as work:
        work.revoke(DeviceId(device.device_id), "by the operator", now())

    answer = device.client.post("/attest/v1/challenges")

    assert (answer.status, answer.json["code"]) == (403, "device-revoked")
