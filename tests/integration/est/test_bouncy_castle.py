"""EST with Bouncy Castle's client, ``org.bouncycastle.est``, which nobody here wrote.

HTTP, base64, PKCS#7 and the signed request are Bouncy Castle's, TLS is its own or the JDK's; what
needs a TPM, the attestation in a request, is made by our library. ``BouncyCastleEst.java`` only
calls it.

Needs Debian's default-jdk-headless, libbcpkix-java and libbctls-java. `make setup` installs them
only if asked (SETUP_MORE_PACKAGES, as .ci/run does).
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.ports import KeyRole
from tests.simulators.est import (
    Curl,
    authorities,
    challenge_of,
    csr_of,
    current_names,
    enrol,
    issued,
    verified_by_openssl,
)
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite

JARS = [Path(f"/usr/share/java/{name}.jar") for name in ("bcpkix", "bcprov", "bcutil", "bctls")]
PROGRAM = Path(__file__).with_name("BouncyCastleEst.java")
NO_TRACES = "-XX:-UsePerfData"
"""Java keeps a folder in /tmp otherwise."""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        any(shutil.which(one) is None for one in ("java", "javac"))
        or not all(jar.exists() for jar in JARS),
        reason="needs the packages that .ci/run names",
    ),
]
_SERIALS = itertools.count(1)
BINDING, USUAL = "bc:TLSv1.2", "jdk:TLSv1.3"
VERSIONS = pytest.mark.parametrize("tls", [BINDING, "bc:TLSv1.3", "jdk:TLSv1.2", USUAL])


@dataclass
class BouncyCastle:
    """The compiled program as one TLS client; its files stay in a folder."""

    classes: Path
    curl: Curl

    def run(self, tls: str, *operation: str) -> subprocess.CompletedProcess[str]:
        """Do one operation; exit code 0 with an answer, 3 with a refusal."""
        return subprocess.run(
            [
                *("java", NO_TRACES, "-Xshare:auto", "-XX:TieredStopAtLevel=1"),
                *("-cp", ":".join(map(str, (self.classes, *JARS))), PROGRAM.stem),
                *(f"localhost:{self.curl.site.port}", tls, str(self.curl.site.service_ca)),
                *(self.curl.certificate or "-", *operation),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def answer(self, tls: str, *operation: str) -> str:
        """Do one operation that is answered; returns what was printed."""
        done = self.run(tls, *operation)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, tls: str, *operation: str) -> tuple[int, dict[str, object]]:
        """Do one operation that is refused; returns status and problem, as the client read them."""
        done = self.run(tls, *operation)
        assert done.returncode == 3, done.stderr
        status, _, body = done.stderr.partition("\n")
        problem = json.loads(body)
        assert isinstance(problem, dict)
        return int(status), problem

    def request(self, device: SiteDevice, csr: bytes) -> tuple[str, str]:
        """Return the files of a request to follow and of the key to sign it with."""
        like, key = self.curl.folder / "like.der", self.curl.folder / "key.pem"
        like.write_bytes(csr)
        private = device.tpm.keys[KeyRole.LDEVID].private
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(like), str(key)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    done = subprocess.run(
        [
            "javac",
            f"-J{NO_TRACES}",
            "-Xlint:all",
            "-cp",
            ":".join(map(str, JARS)),
            "-d",
            str(folder),
            str(PROGRAM),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path_factory.mktemp("site"), SoftManufacturer()) as running:
        yield running


@pytest.fixture
def curl(site: VerifierSite, tmp_path: Path) -> Curl:
    return Curl(site, tmp_path)


@pytest.fixture
def device(site: VerifierSite) -> SiteDevice:
    return site.device(f"BC-{next(_SERIALS):04}")


@pytest.fixture
def stranger(classes: Path, curl: Curl) -> BouncyCastle:
    """A client without a certificate."""
    return BouncyCastle(classes, curl)


@pytest.fixture
def maker_known(classes: Path, curl: Curl, device: SiteDevice) -> BouncyCastle:
    """A client that the device's maker has given an identity."""
    return BouncyCastle(classes, curl.as_idevid(device))


def first_request(device: SiteDevice) -> bytes:
    return csr_of(device, device.enrolment_request(challenge_of(device.idevid_client())))


def public_key(curl: Curl, leaf_pem: str) -> str:
    return curl.openssl("x509", "-noout", "-pubkey", given=leaf_pem.encode())


@VERSIONS
def test_it_fetches_the_cas(stranger: BouncyCastle, tls: str) -> None:
    root, between = authorities(stranger.curl)

    found = x509.load_pem_x509_certificates(stranger.answer(tls, "cacerts").encode())

    expected = x509.load_pem_x509_certificates(root.read_bytes() + between.read_bytes())
    assert set(found) == set(expected)


def test_it_reads_what_a_request_should_hold(stranger: BouncyCastle) -> None:
    told = stranger.answer(USUAL, "csrattrs").splitlines()

    assert set(told) == {
        "attribute 1.2.840.10045.2.1",
        "attribute 2.25.97902326604244196390911651353718885732.100.1",
        "oid 1.2.840.10045.4.3.2",
        "oid 1.2.840.113549.1.9.16.2.59",
        "oid 1.3.6.1.5.5.7.1.35",
        "oid 2.23.133.20.1",
    }


@VERSIONS
def test_it_enrols_with_a_manufacturers_identity(
    maker_known: BouncyCastle, device: SiteDevice, tls: str
) -> None:
    like, key = maker_known.request(device, first_request(device))

    leaf = maker_known.answer(tls, "enrol", like, key)

    assert leaf.count("BEGIN CERTIFICATE") == 1
    verified_by_openssl(maker_known.curl, leaf)
    asked = maker_known.curl.openssl("req", "-inform", "DER", "-in", like, "-noout", "-pubkey")
    assert public_key(maker_known.curl, leaf) == asked


@VERSIONS
def test_it_renews_over_the_certificate_that_it_was_given(
    classes: Path, curl: Curl, device: SiteDevice, tls: str
) -> None:
    device.chain_pem = issued(enrol(device)).public_bytes(Encoding.PEM)
    me = curl.identify(device.chain_pem, device.tpm.keys[KeyRole.LDEVID].private)
    client = BouncyCastle(classes, me)
    request = device.enrolment_request(challenge_of(device.new_client()))
    like, key = client.request(device, csr_of(device, request, current_names(device)))

    renewed = client.answer(tls, "renew", like, key)

    verified_by_openssl(curl, renewed)
    (old,) = x509.load_pem_x509_certificates(device.chain_pem)
    (new,) = x509.load_pem_x509_certificates(renewed.encode())
    assert (new.subject, new.public_key()) == (old.subject, old.public_key())
    assert new.serial_number != old.serial_number


def test_it_is_told_without_a_certificate_that_one_is_needed(
    stranger: BouncyCastle, device: SiteDevice
) -> None:
    request = stranger.request(device, first_request(device))

    status, problem = stranger.refusal(USUAL, "enrol", *request)

    assert (status, problem["code"]) == (401, "client-certificate-required")


def test_a_request_that_it_binds_to_the_channel_is_taken(
    maker_known: BouncyCastle, device: SiteDevice
) -> None:
    like, key = maker_known.request(device, first_request(device))

    verified_by_openssl(maker_known.curl, maker_known.answer(BINDING, "enrol-bound", like, key))


def test_it_reads_a_refusal(maker_known: BouncyCastle, device: SiteDevice) -> None:
    device.tpm.create_ldevid()
    plain = device.tpm.csr(KeyRole.LDEVID, "device", ())

    status, problem = maker_known.refusal(USUAL, "enrol", *maker_known.request(device, plain))

    assert (status, problem["code"]) == (403, "proofs-missing")
    assert problem["missing"] == ["residency", "evidence"]


def test_tls_1_3_has_nothing_to_bind_to(maker_known: BouncyCastle, device: SiteDevice) -> None:
    like, key = maker_known.request(device, first_request(device))

    done = maker_known.run("bc:TLSv1.3", "enrol-bound", like, key)

    assert done.returncode == 1
    assert "Source does not supply TLS unique" in done.stderr
