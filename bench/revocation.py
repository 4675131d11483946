"""From contraindicated evidence to revoked: in the verifier's own answers, and at a TLS server."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.measure import MILLISECONDS, Bench, Line, held_to, percentile
from device_agent.ports import KeyRole
from tests.simulators.relying_party import PollingServer, admitted
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from tests.verifier.api.test_pki_routes import free_port

BUDGET_MS: Final = 1_000.0
BUDGET_AT_SERVER_S: Final = 5.0
POLL_S: Final = 1.0
_FALLS: Final = 100
_AT_SERVER: Final = 5


def revocation() -> Iterator[Line]:
    """Tamper with device after device; time until the next revocation list has each.

    The clock runs from before the evidence is made until the whole list that names the serial
    number has been read over plain HTTP.
    """
    took = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _site(Path(folder)) as site:
        for number in range(_FALLS):
            device = _enrolled(site, f"FALL-{number:04}")
            device.attest()
            (leaf, *_) = x509.load_pem_x509_certificates(device.chain_pem)
            device.tamper()
            began = time.perf_counter()
            device.attest()
            while not _listed(leaf):
                pass
            took.append(time.perf_counter() - began)
    p99 = percentile(took, 99) * MILLISECONDS
    yield held_to("revocation_p99_ms", p99, "ms", BUDGET_MS, "≤")


def at_server() -> Iterator[Line]:
    """The same until a TLS server that polls the list every second turns the device away."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _site(Path(folder)) as site:
        took = [
            _turned_away(site, _enrolled(site, f"SERVER-{number}"), Path(folder))
            for number in range(_AT_SERVER)
        ]
    yield held_to("revocation_at_tls_server_s", max(took), "s", BUDGET_AT_SERVER_S, "≤")


def _turned_away(site: VerifierSite, device: SiteDevice, folder: Path) -> float:
    leaf, *chain = x509.load_pem_x509_certificates(device.chain_pem)
    trust = folder / "trust.pem"
    chain += site.running.services.published.authority.roots()
    trust.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    keys = site.folder / "keys"
    own = keys / "tls.cert.pem", keys / "tls.key.pem"
    context = site.context(device.chain_pem, device.tpm.keys[KeyRole.LDEVID].private)
    with PollingServer(trust, _crl_url(leaf), own, every_s=POLL_S) as server:
        if not admitted(server.port, context):
            raise RuntimeError("the server does not take a device that is well")
        device.tamper()
        began = time.perf_counter()
        device.attest()
        while admitted(server.port, context):
            time.sleep(0.01)
        return time.perf_counter() - began


def _site(folder: Path) -> VerifierSite:
    port = free_port()
    limits = "[limits]\nrequests_per_s = 100000.0\nburst = 1000000\n"
    pki = f'[pki]\nurl = "http://127.0.0.1:{port}"\nhttp_port = {port}\n'
    return VerifierSite(folder / "site", SoftManufacturer(), extra=limits + pki)


def _enrolled(site: VerifierSite, serial: str) -> SiteDevice:
    device = site.device(serial)
    answer = device.enrol()
    if answer.status != 201:  # noqa: PLR2004 - HTTP
        raise RuntimeError(f"enrolment: {answer.status} {answer.body.decode()[:300]}")
    return device


def _listed(leaf: x509.Certificate) -> bool:
    with urllib.request.urlopen(_crl_url(leaf), timeout=10) as answer:  # noqa: S310 - loopback
        crl = x509.load_der_x509_crl(answer.read())
    return crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None


def _crl_url(leaf: x509.Certificate) -> str:
    places = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    urls = places[0].full_name
    if not urls:
        raise RuntimeError("the certificate does not say where its list is")
    return str(urls[0].value)


BENCHES = (
    Bench(names=("revocation_p99_ms",), run=revocation),
    Bench(names=("revocation_at_tls_server_s",), run=at_server),
)
