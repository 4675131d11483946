"""openssl holds everything that a verifier publishes against everything that it issued.

Three times, since each makes another chain: as ``verifier init`` left the authority, after the
issuing CA was rotated, and below a new root.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.simulators.relying_party import openssl, status_of
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from tests.verifier.api.agent_site import enrolled, named
from tests.verifier.api.test_authority_rotation import ceremony
from tests.verifier.api.test_pki_routes import free_port
from verifier.issuance.profiles import Issuer
from verifier.issuance.publication import issuer_id
from verifier.issuance.revocation_policy import Event
from verifier.keys.authority import SERVICE_CA, create_service_certificate, load_authority
from verifier.keys.offline_root import OFFLINE_ROOT, make_root, open_root, revoke_issuing
from verifier.services.revocation import Revocation
from verifier.sources import SystemEntropy

pytestmark = pytest.mark.system

POLICY = """
id = "all"
[[device]]
class = "default"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
[[agent]]
class = "bare"
proofs = ["pop"]
"""
AUTHORITIES = ("first", "rotated", "new-root")


@dataclass
class Era:
    """Under one issuing CA: a device and its agent, and what a relying party has of the CAs."""

    folder: Path
    url: str
    device: SiteDevice
    issuer: x509.Certificate
    leaves: dict[str, Path]

    @property
    def chain(self) -> tuple[str | Path, ...]:
        return ("-CAfile", self.folder / "root.pem", "-untrusted", self.folder / "issuer.pem")

    def lists(self) -> Path:
        """Fetch the issuing CA's list as anybody does, and put the root's beside it."""
        got = openssl(
            *("crl", "-inform", "DER", "-out", self.folder / "issuing.crl.pem"),
            *("-in", fetched(f"{self.url}/pki/v1/crl/{issuer_id(self.issuer)}.crl", self.folder)),
        )
        assert got.returncode == 0, got.stdout
        both = self.folder / "both.crl.pem"
        both.write_bytes(
            (self.folder / "issuing.crl.pem").read_bytes()
            + (self.folder / "root.crl.pem").read_bytes()
        )
        return both

    def ocsp(self, *certificates: Path) -> str:
        asked = [item for path in certificates for item in ("-cert", path)]
        return openssl(
            *("ocsp", "-issuer", self.folder / "issuer.pem", *asked),
            *("-url", f"{self.url}/pki/v1/ocsp", "-CAfile", self.folder / "root.pem"),
            *("-verify_other", self.folder / "issuer.pem"),
        ).stdout


def fetched(url: str, folder: Path) -> Path:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
        (folder / "fetched").write_bytes(answer.read())
    return folder / "fetched"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder, port = tmp_path_factory.mktemp("all"), free_port()
    (folder / "enrolment.toml").write_text(POLICY)
    extra = f"""enrolment = "{folder}/enrolment.toml"
[limits]
requests_per_s = 1000.0
burst = 100000
[pki]
url = "http://127.0.0.1:{port}"
http_port = {port}
"""
    with VerifierSite(folder, SoftManufacturer(), extra=extra) as running:
        yield running


@pytest.fixture(scope="module")
def eras(site: VerifierSite) -> dict[str, Era]:
    """Enrol under each authority in turn; all are asked about when the last one issues."""
    first = open_root(site.folder / "keys" / OFFLINE_ROOT, None)
    made = {"first": era(site, "first", first)}
    ceremony(site).rotate(first, "fleet", datetime.now(UTC))
    made["rotated"] = era(site, "rotated", first)
    medium = site.folder / "medium"
    second = make_root(medium, "next", None, at=datetime.now(UTC), entropy=SystemEntropy())
    ceremony(site).trust(second.certificate, datetime.now(UTC))
    ceremony(site).rotate(second, "next", datetime.now(UTC))
    made["new-root"] = era(site, "new-root", second)
    return made


def era(site: VerifierSite, name: str, root: Issuer) -> Era:
    folder = site.folder / name
    folder.mkdir()
    device = site.device(f"ALL-{name}")
    assert device.enrol().status == 201
    leaf, issuer = x509.load_pem_x509_certificates(device.chain_pem)
    told = enrolled(device, named("planner"), None, capabilities=())
    agent = x509.load_pem_x509_certificates(told["certificate_chain_pem"].encode())[0]
    kept = folder / "device.pem", folder / "agent.pem"
    for path, one in (
        *zip(kept, (leaf, agent), strict=True),
        (folder / "issuer.pem", issuer),
        (folder / "root.pem", root.certificate),
    ):
        path.write_bytes(one.public_bytes(Encoding.PEM))
    source = site.folder / ("medium" if name == "new-root" else f"keys/{OFFLINE_ROOT}")
    now = datetime.now(UTC)
    told_by_root = revoke_issuing(source, root, None, at=now, until=now + timedelta(days=30))
    (folder / "root.crl.pem").write_bytes(told_by_root.public_bytes(Encoding.PEM))
    url = site.settings.pki.url
    return Era(folder, url, device, issuer, dict(zip(("device", "agent"), kept, strict=True)))


@pytest.mark.parametrize("authority", AUTHORITIES)
def test_chains_lists_and_answers_of_every_authority_hold_and_tell_a_revocation(
    site: VerifierSite, eras: dict[str, Era], authority: str
) -> None:
    told = eras[authority]
    strict = ("verify", "-x509_strict", "-purpose", "sslclient", *told.chain)
    paths = list(told.leaves.values())
    checked = ("-crl_check_all", "-CRLfile", told.lists())

    for path in paths:
        assert openssl(*strict, path).stdout == f"{path}: OK\n"
        assert openssl(*strict, *checked, path).stdout == f"{path}: OK\n"
    for crl, signer in (("issuing.crl.pem", "issuer.pem"), ("root.crl.pem", "root.pem")):
        said = openssl(
            *("crl", "-noout", "-verify", "-in", told.folder / crl),
            *("-CAfile", told.folder / signer),
        )
        assert said.stdout == "verify OK\n"
    before = told.ocsp(*paths)
    assert "Response verify OK" in before
    assert status_of(before, paths) == ["good", "good"]

    revocation = Revocation(site.running.store, site.running.revocation)
    revocation.holder(Event.OPERATOR, told.device.device_id, datetime.now(UTC), why="sold")

    checked = ("-crl_check_all", "-CRLfile", told.lists())
    for path in paths:
        assert "error 23 at 0 depth lookup: certificate revoked" in (
            openssl(*strict, *checked, path).stdout
        )
    after = told.ocsp(*paths)
    assert "Response verify OK" in after
    assert status_of(after, paths) == ["revoked", "revoked"]


@pytest.mark.parametrize("authority", AUTHORITIES)
def test_chain_of_one_authority_does_not_hold_under_anothers_root_or_issuer(
    eras: dict[str, Era], authority: str
) -> None:
    told = eras[authority]
    for name, other in eras.items():
        said = openssl("verify", *other.chain, told.leaves["device"])
        assert (said.returncode == 0) is (name == authority), said.stdout


def test_certificates_of_the_service_ca_hold(site: VerifierSite, tmp_path: Path) -> None:
    keys = site.folder / "keys"
    client = tmp_path / "client.pem"
    create_service_certificate(
        certificate_path=client,
        key_path=tmp_path / "client.key.pem",
        authority=load_authority(keys, SERVICE_CA),
        common_name="service.dashboard",
        hostnames=(),
        at=datetime.now(UTC),
    )
    for path, purpose, other in (
        (keys / "tls.cert.pem", "sslserver", "sslclient"),
        (client, "sslclient", "sslserver"),
    ):
        strict = ("verify", "-x509_strict", "-CAfile", site.service_ca, "-purpose")
        assert openssl(*strict, purpose, path).stdout == f"{path}: OK\n"
        assert "unsuitable certificate purpose" in openssl(*strict, other, path).stdout
