"""What relying parties fetch: openssl believes all of it, and it is never older than the store."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.simulators.relying_party import openssl, status_of
from tests.simulators.soft_ca import soft_ca
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, now
from verifier.api.client_certificate import SPARE_CONNECTIONS
from verifier.issuance.revocation_policy import Event
from verifier.main import PLAIN_CONNECTIONS
from verifier.services.revocation import Revocation

_SERIALS = itertools.count(1)


@dataclass
class Pki:
    """A verifier with a plain door, and where its certificates say it is."""

    site: VerifierSite
    url: str
    folder: Path

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        asked = urllib.request.Request(self.url + path, headers=headers)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
                return answer.status, _lower(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, _lower(error.headers), error.read()

    def device(self) -> tuple[SiteDevice, Path]:
        device = self.site.device(f"PKI-{next(_SERIALS):04}")
        assert device.enrol().status == 201
        path = self.folder / f"{device.device_id}.pem"
        leaf, *chain = x509.load_pem_x509_certificates(device.chain_pem)
        path.write_bytes(leaf.public_bytes(Encoding.PEM))
        (self.folder / "issuer.pem").write_bytes(chain[0].public_bytes(Encoding.PEM))
        return device, path

    def revoke(self, device: SiteDevice) -> None:
        revocation = Revocation(self.site.running.store, self.site.running.revocation)
        (one,) = revocation.find(device.device_id)
        assert revocation.certificate(Event.CERTIFICATE, one, now()).revoked == 1

    @property
    def issuer(self) -> Path:
        return self.folder / "issuer.pem"

    def verify(self, certificate: Path) -> str:
        """Let openssl fetch the list by the URL in the certificate, and check with it."""
        return openssl(
            *("verify", "-crl_check", "-crl_download", "-partial_chain"),
            *("-CAfile", self.issuer, certificate),
        ).stdout

    def ocsp(self, *certificates: Path, **options: str) -> str:
        asked = [item for path in certificates for item in ("-cert", path)]
        more = [item for name, value in options.items() for item in (f"-{name}", value) if item]
        return openssl(
            *("ocsp", "-issuer", self.issuer, *asked, "-url", f"{self.url}/pki/v1/ocsp"),
            *("-CAfile", self.issuer, "-partial_chain", *more),
        ).stdout


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    extra = f"""
[limits]
requests_per_s = 1000.0
burst = 100000
[pki]
url = "{url}"
http_port = {port}
"""
    folder = tmp_path_factory.mktemp("pki")
    with VerifierSite(folder / "site", SoftManufacturer(), extra=extra) as site:
        yield Pki(site, url, folder)


def test_openssl_finds_the_list_by_itself_and_sees_a_revocation_at_once(pki: Pki) -> None:
    device, path = pki.device()
    before = pki.verify(path)

    pki.revoke(device)

    assert before.endswith(": OK\n")
    assert "certificate revoked" in pki.verify(path)


def test_openssl_ocsp_believes_the_answers(pki: Pki) -> None:
    (_, good), (device, bad) = pki.device(), pki.device()
    pki.revoke(device)

    said = pki.ocsp(good, bad)

    assert "Response verify OK" in said
    assert "WARNING" not in said  # no nonce came back, or another
    assert status_of(said, [good, bad]) == ["good", "revoked"]


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_openssl_ocsp_may_name_certificates_by_either_hash(pki: Pki, digest: str) -> None:
    _, path = pki.device()

    said = openssl(
        *("ocsp", "-issuer", pki.issuer, f"-{digest}", "-cert", path),
        *("-url", f"{pki.url}/pki/v1/ocsp", "-CAfile", pki.issuer, "-partial_chain"),
    ).stdout

    assert status_of(said, [path]) == ["good"]


def test_openssl_ocsp_hears_that_a_serial_number_is_unknown(pki: Pki) -> None:
    pki.device()

    said = openssl(
        *("ocsp", "-issuer", pki.issuer, "-serial", "0x1234567890"),
        *("-url", f"{pki.url}/pki/v1/ocsp", "-CAfile", pki.issuer, "-partial_chain"),
    ).stdout

    assert "0x1234567890: unknown" in said


def test_openssl_ocsp_hears_that_another_ca_is_not_ours(pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(soft_ca(now()).certificate.public_bytes(Encoding.PEM))

    said = openssl(
        *("ocsp", "-issuer", tmp_path / "other.pem", "-serial", "0x10"),
        *("-url", f"{pki.url}/pki/v1/ocsp", "-CAfile", pki.issuer),
    ).stdout

    assert "unauthorized (6)" in said


def test_ocsp_may_be_asked_by_get(pki: Pki) -> None:
    _, path = pki.device()
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    issuer = x509.load_pem_x509_certificate(pki.issuer.read_bytes())
    for number in range(8):  # some with '/' and '+' in their base64
        message = (
            ocsp.OCSPRequestBuilder()
            .add_certificate(leaf, issuer, hashes.SHA256())
            .add_extension(x509.OCSPNonce(bytes([0xFB + number % 5]) * 32), critical=False)
            .build()
            .public_bytes(Encoding.DER)
        )
        text = base64.b64encode(message).decode()
        for encoded in (text, text.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D")):
            status, headers, body = pki.get(f"/pki/v1/ocsp/{encoded}")

            assert (status, headers["content-type"]) == (200, "application/ocsp-response")
            found = ocsp.load_der_ocsp_response(body)
            assert found.certificate_status is ocsp.OCSPCertStatus.GOOD


@pytest.mark.parametrize("question", ["%21", "MAA", "", "AAAA" * 9000])
def test_question_that_is_none_is_answered_as_malformed(pki: Pki, question: str) -> None:
    status, _, body = pki.get(f"/pki/v1/ocsp/{question}")

    assert status == 200
    found = ocsp.load_der_ocsp_response(body).response_status
    assert found is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_certificate_names_where_its_issuer_is(pki: Pki) -> None:
    _, path = pki.device()
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    told = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    urls = {one.access_method: one.access_location.value for one in told}

    status, headers, body = pki.get(
        urls[AuthorityInformationAccessOID.CA_ISSUERS].removeprefix(pki.url)
    )

    assert (status, headers["content-type"]) == (200, "application/pkix-cert")
    leaf.verify_directly_issued_by(x509.load_der_x509_certificate(body))
    assert urls[AuthorityInformationAccessOID.OCSP] == f"{pki.url}/pki/v1/ocsp"


def crl_path(pki: Pki) -> str:
    _, path = pki.device()
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    places = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert places[0].full_name is not None
    return str(places[0].full_name[0].value).removeprefix(pki.url)


def test_list_that_is_known_already_is_not_sent_again(pki: Pki) -> None:
    path = crl_path(pki)
    status, headers, body = pki.get(path)

    again = pki.get(path, **{"If-None-Match": headers["etag"]})
    device, _ = pki.device()
    pki.revoke(device)
    newer = pki.get(path, **{"If-None-Match": headers["etag"]})

    assert (status, headers["content-type"]) == (200, "application/pkix-crl")
    assert headers["cache-control"] == "public, no-cache"
    assert headers["last-modified"].endswith("GMT")
    assert (again[0], again[2]) == (304, b"")
    assert newer[0] == 200
    assert newer[2] != body


def test_status_list_is_a_token_of_the_key_set(pki: Pki) -> None:
    device, _ = pki.device()
    store = pki.site.running.store
    (one,) = Revocation(store, pki.site.running.revocation).find(device.device_id)

    def bit() -> int:
        status, headers, body = pki.get("/pki/v1/status/0")
        assert (status, headers["content-type"]) == (200, "application/statuslist+jwt")
        header = jwt.get_unverified_header(body.decode())
        keys = pki.site.client().get("/.well-known/jwks.json").json["keys"]
        key = next(jwt.PyJWK(key) for key in keys if key["kid"] == header["kid"])
        claims = jwt.decode(body.decode(), key, algorithms=["ES256"])
        assert header["typ"] == "statuslist+jwt"
        assert claims["sub"] == f"{pki.url}/pki/v1/status/0"
        text = claims["status_list"]["lst"]
        octets = zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return octets[one.number // 8] >> one.number % 8 & 1

    assert bit() == 0
    pki.revoke(device)
    assert bit() == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/pki/v1/crl/0123456789abcdef.crl", "ca-unknown"),
        ("/pki/v1/ca/0123456789abcdef.cer", "ca-unknown"),
        ("/pki/v1/status/5", "status-list-unknown"),
        ("/results/v1/devices", "request-invalid"),
        ("/attest/v1/challenges", "request-invalid"),
        ("/", "request-invalid"),
    ],
)
def test_plain_door_has_nothing_else(pki: Pki, path: str, code: str) -> None:
    status, headers, body = pki.get(path)

    assert (status, json.loads(body)["code"]) == (404, code)
    assert headers["content-type"] == "application/problem+json"


def test_same_is_served_over_https(pki: Pki) -> None:
    answer = pki.site.client().get(crl_path(pki))

    assert answer.status == 200
    assert x509.load_der_x509_crl(answer.body).is_signature_valid(
        x509.load_pem_x509_certificate(pki.issuer.read_bytes()).public_key()  # type: ignore[arg-type]
    )


def test_connections_that_fill_the_plain_door_leave_the_other_alone(pki: Pki) -> None:
    """Whoever opens thousands and asks nothing takes no file descriptors from the devices."""
    host, port = pki.url.removeprefix("http://").split(":")
    most = PLAIN_CONNECTIONS + SPARE_CONNECTIONS
    with contextlib.ExitStack() as held:
        idle = [
            held.enter_context(socket.create_connection((host, int(port)), timeout=5))
            for _ in range(most + 50)
        ]
        time.sleep(0.5)
        closed = [one for one in idle if _is_closed(one)]

        assert len(closed) >= 50
        assert pki.site.client().get("/health/live").status == 200
    assert pki.get("/pki/v1/status/0")[0] == 200


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)  # noqa: FBT003 - socket's own signature
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
