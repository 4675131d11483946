"""nginx and FreeRADIUS hold devices to the verifier's list and OCSP, as docs/revocation.md says.

Needs Debian's nginx-light, freeradius and eapoltest: `make setup` installs them only if asked
(SETUP_MORE_PACKAGES, as .ci/run does), for they are services that would start on the host.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.demo.processes import free_port
from device_agent.ports import KeyRole
from tests.simulators.command_line import runner
from tests.simulators.relying_servers import FreeRadius, Nginx, on_the_page
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, now
from verifier.issuance.revocation_policy import Event
from verifier.keys.offline_root import OFFLINE_ROOT
from verifier.services.revocation import Revocation

PATHS = "/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = ("nginx", "freeradius", "eapol_test")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        any(shutil.which(one, path=PATHS) is None for one in TOOLS),
        reason="needs the packages that .ci/run names",
    ),
]
_SERIALS = itertools.count(1)
Kind = TypeVar("Kind", Nginx, FreeRadius)


@dataclass
class Fleet:
    """A verifier with a plain door, and what a server is given of it."""

    site: VerifierSite
    url: str
    folder: Path

    def device(self) -> tuple[SiteDevice, Path]:
        """A device that has enrolled, and a PEM file with its chain and key."""
        device = self.site.device(f"SRV-{next(_SERIALS):04}")
        assert device.enrol().status == 201
        key = device.tpm.keys[KeyRole.LDEVID].private
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        path = self.folder / f"{device.device_id}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(device.chain_pem + private)
        return device, path

    def revoke(self, device: SiteDevice) -> None:
        """Revoke what a device holds, as an operator does."""
        told = Revocation(self.site.running.store, self.site.running.revocation)
        (one,) = told.find(device.device_id)
        assert told.certificate(Event.CERTIFICATE, one, now()).revoked == 1

    def settings(self, folder: Path, fence: str, word: str) -> str:
        """A block of the page, with its places and names in this test's."""
        text = on_the_page(fence, word)
        for place in ("/etc/nginx", "/etc/freeradius"):
            text = text.replace(place, str(folder))
        issuer = self.site.running.services.published.authority.issuers()[-1].certificate
        name = issuer.fingerprint(hashes.SHA256()).hex()[:16]
        text = text.replace("0123456789abcdef", name)
        return text.replace("http://pki.fleet.example:8080", self.url)

    def chain(self, folder: Path) -> None:
        """Put issuing CA and root where the page says."""
        authority = self.site.running.services.published.authority
        found = (*(one.certificate for one in authority.issuers()), *authority.roots())
        pems = b"".join(one.public_bytes(Encoding.PEM) for one in found)
        (folder / "fleet-chain.pem").write_bytes(pems)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    port, folder = free_port(), tmp_path_factory.mktemp("fleet")
    url = f"http://127.0.0.1:{port}"
    extra = f'[limits]\nrequests_per_s = 1000.0\n[pki]\nurl = "{url}"\nhttp_port = {port}\n'
    with VerifierSite(folder / "site", SoftManufacturer(), extra=extra) as site:
        yield Fleet(site, url, folder)


def server(kind: type[Kind], fleet: Fleet, folder: Path, settings: str) -> Kind:
    fleet.chain(folder)
    keys = fleet.site.folder / "keys"
    return kind(
        folder=folder,
        certificate=keys / "tls.cert.pem",
        key=keys / "tls.key.pem",
        settings=settings,
    )


def test_nginx_asks_by_ocsp_at_each_handshake(fleet: Fleet, tmp_path: Path) -> None:
    (device, client), (_, other) = fleet.device(), fleet.device()
    settings = fleet.settings(tmp_path, "nginx", "ssl_ocsp_responder")

    with server(Nginx, fleet, tmp_path, settings) as nginx:
        assert nginx.admits(fleet.site.service_ca, client)
        fleet.revoke(device)

        assert not nginx.admits(fleet.site.service_ca, client)
        assert nginx.admits(fleet.site.service_ca, other)


def test_nginx_admits_nobody_while_nobody_answers(fleet: Fleet, tmp_path: Path) -> None:
    _, client = fleet.device()
    settings = fleet.settings(tmp_path, "nginx", "ssl_ocsp_responder")

    with server(
        Nginx, fleet, tmp_path, settings.replace(fleet.url, f"http://127.0.0.1:{free_port()}")
    ) as nginx:
        assert not nginx.admits(fleet.site.service_ca, client)


def test_nginx_that_reloads_its_lists_refuses_what_was_revoked(
    fleet: Fleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (device, client), (_, other) = fleet.device(), fleet.device()
    run = runner(monkeypatch, capfd)
    root = fleet.site.folder / "keys" / OFFLINE_ROOT
    code, out, said = run("ca", "revoke", "--root", root, "--out", tmp_path / "root.crl.pem")
    assert code == 0, said
    assert "0 revoked" in out
    fetch = fleet.settings(tmp_path, "sh", "nginx -s reload")
    settings = fleet.settings(tmp_path, "nginx", "ssl_crl")
    nginx = server(Nginx, fleet, tmp_path, settings)
    nginx.shell(fetch.replace("nginx -s reload", "true"))

    with nginx:
        assert nginx.admits(fleet.site.service_ca, client)
        fleet.revoke(device)
        nginx.shell(fetch)

        until_refused(nginx, fleet, client)
        assert nginx.admits(fleet.site.service_ca, other)


def until_refused(nginx: Nginx, fleet: Fleet, client: Path) -> None:
    """A reload takes its time: old workers finish what they began."""
    for _ in range(50):
        if not nginx.admits(fleet.site.service_ca, client):
            return
    pytest.fail("nginx goes on admitting what was revoked")


def test_nginx_with_the_issuing_cas_list_alone_admits_nobody(fleet: Fleet, tmp_path: Path) -> None:
    """Why the page wants the root's list too."""
    _, client = fleet.device()
    settings = fleet.settings(tmp_path, "nginx", "ssl_crl")
    nginx = server(Nginx, fleet, tmp_path, settings)
    (tmp_path / "root.crl.pem").write_bytes(b"")
    fetch = fleet.settings(tmp_path, "sh", "nginx -s reload")
    nginx.shell(fetch.replace("nginx -s reload", "true"))

    with nginx:
        assert not nginx.admits(fleet.site.service_ca, client)
        assert "unable to get certificate CRL" in (tmp_path / "error.log").read_text()


def test_freeradius_asks_by_ocsp_at_each_login(fleet: Fleet, tmp_path: Path) -> None:
    (device, client), (_, other) = fleet.device(), fleet.device()
    settings = fleet.settings(tmp_path, "", "tls-config")

    with server(FreeRadius, fleet, tmp_path, settings) as radius:
        assert radius.admits(fleet.site.service_ca, client)
        fleet.revoke(device)

        assert not radius.admits(fleet.site.service_ca, client)
        assert radius.admits(fleet.site.service_ca, other)
    assert "ocsp: Cert status: revoked" in (tmp_path / "output.log").read_text()


def test_freeradius_admits_nobody_while_nobody_answers(fleet: Fleet, tmp_path: Path) -> None:
    _, client = fleet.device()
    settings = fleet.settings(tmp_path, "", "tls-config")

    with server(
        FreeRadius, fleet, tmp_path, settings.replace(fleet.url, f"http://127.0.0.1:{free_port()}")
    ) as radius:
        assert not radius.admits(fleet.site.service_ca, client)
