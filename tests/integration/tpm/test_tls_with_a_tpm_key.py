"""Mutual TLS over real sockets with the client's key in a (software) TPM."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.tpm.public import parse_public
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import CertificateUnusable, TpmRefused, TpmUnavailable
from device_agent.ports import KeyRole
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.tls import signing_failure, use_tpm_key

pytestmark = pytest.mark.tpm

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class OwnerAuthority:
    """Issues client certificates from requests."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._builder("owner", self._key.public_key()).sign(
            self._key, hashes.SHA256()
        )

    def _builder(self, name: str, key: CertificatePublicKeyTypes) -> x509.CertificateBuilder:
        ours = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "owner")])
        theirs = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=name == "owner", path_length=None)
        return (
            x509.CertificateBuilder()
            .subject_name(theirs)
            .issuer_name(ours)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
            .not_valid_after(dt.datetime(9999, 12, 31, tzinfo=dt.UTC))
            .add_extension(constraints, critical=True)
        )

    def issue(self, csr_der: bytes) -> x509.Certificate:
        request = x509.load_der_x509_csr(csr_der)
        assert request.is_signature_valid
        name = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        return self._builder(str(name), request.public_key()).sign(self._key, hashes.SHA256())


class EchoServer:
    """A TLS server that demands client certificates and tells each client who it is."""

    def __init__(self, clients: OwnerAuthority, site: trustme.CA) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        site.issue_cert("localhost").configure_cert(self.context)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(cadata=clients.certificate.public_bytes(Encoding.DER))
        self._door = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._door.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        line.settimeout(10)
        with (
            line,
            contextlib.suppress(OSError),
            self.context.wrap_socket(line, server_side=True) as tls,
        ):
            shown = tls.getpeercert(binary_form=True) or b""
            tls.sendall(hashes_of(shown))
            tls.unwrap()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()


def hashes_of(der: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return digest.finalize()


@pytest.fixture(scope="module")
def owner() -> OwnerAuthority:
    return OwnerAuthority()


@pytest.fixture(scope="module")
def site() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(owner: OwnerAuthority, site: trustme.CA) -> Iterator[EchoServer]:
    running = EchoServer(owner, site)
    yield running
    running.close()


def client_context(
    tpm: EsapiTpm,
    role: KeyRole,
    certificate: x509.Certificate,
    site: trustme.CA,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    site.configure_trust(context)
    use_tpm_key(
        context,
        certificate_chain_pem=certificate.public_bytes(Encoding.PEM),
        spki_der=parse_public(tpm.public_area(role)).spki_der,
        sign_digest=lambda digest: tpm.sign_digest(role, digest),
    )
    return context


def who_am_i(context: ssl.SSLContext, port: int) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as line,
        context.wrap_socket(line, server_hostname="localhost") as tls,
    ):
        return tls.recv(64)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.LDEVID])
def test_the_server_sees_the_certificate_of_the_tpm_key(
    tpm: EsapiTpm,
    owner: OwnerAuthority,
    site: trustme.CA,
    server: EchoServer,
    role: KeyRole,
    version: ssl.TLSVersion,
) -> None:
    tpm.create_ldevid()
    certificate = owner.issue(tpm.csr(role, "device-1", []))
    context = client_context(tpm, role, certificate, site, version)
    assert who_am_i(context, server.port) == hashes_of(certificate.public_bytes(Encoding.DER))


def test_four_threads_of_ten_handshakes_while_the_daemon_quotes(
    tpm: EsapiTpm, owner: OwnerAuthority, site: trustme.CA, server: EchoServer
) -> None:
    tpm.create_ldevid()
    certificate = owner.issue(tpm.csr(KeyRole.LDEVID, "device-1", []))
    wanted = hashes_of(certificate.public_bytes(Encoding.DER))
    contexts = [
        client_context(tpm, KeyRole.LDEVID, certificate, site, version) for version in VERSIONS
    ]

    def ten(number: int) -> Counter[bytes]:
        return Counter(who_am_i(contexts[number % 2], server.port) for _ in range(10))

    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(ten, number) for number in range(4)]
        quotes = pool.submit(lambda: [tpm.certify(KeyRole.IDEVID, bytes(32)) for _ in range(20)])
        seen = sum((answer.result() for answer in answers), Counter[bytes]())
        assert len(quotes.result()) == 20
    assert seen == {wanted: 40}


def test_a_certificate_for_another_tpm_key_is_refused(
    tpm: EsapiTpm, owner: OwnerAuthority, site: trustme.CA
) -> None:
    tpm.create_ldevid()
    certificate = owner.issue(tpm.csr(KeyRole.IDEVID, "device-1", []))
    with pytest.raises(CertificateUnusable, match="another key"):
        client_context(tpm, KeyRole.LDEVID, certificate, site)


def test_a_tpm_that_went_away_fails_the_handshake_with_its_reason(
    tpm: EsapiTpm, swtpm: SoftwareTpm, owner: OwnerAuthority, site: trustme.CA, server: EchoServer
) -> None:
    tpm.create_ldevid()
    certificate = owner.issue(tpm.csr(KeyRole.LDEVID, "device-1", []))
    context = client_context(tpm, KeyRole.LDEVID, certificate, site)
    swtpm.kill()
    with pytest.raises(ssl.SSLError):
        who_am_i(context, server.port)
    assert isinstance(signing_failure(context), TpmUnavailable)
    swtpm.start()
    assert who_am_i(context, server.port)
    assert signing_failure(context) is None


def test_a_client_of_a_foreign_authority_is_refused_by_the_server(
    tpm: EsapiTpm, site: trustme.CA, server: EchoServer
) -> None:
    tpm.create_ldevid()
    foreign = OwnerAuthority().issue(tpm.csr(KeyRole.LDEVID, "device-1", []))
    context = client_context(tpm, KeyRole.LDEVID, foreign, site)
    with pytest.raises(OSError, match=r"(?i)alert|reset"):
        who_am_i(context, server.port)
    assert signing_failure(context) is None


@pytest.fixture
def openssl_server(tmp_path: Path, site: trustme.CA) -> list[str]:
    leaf = site.issue_cert("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    return ["openssl", "s_server", "-quiet", "-cert", str(tmp_path / "server.pem"), "-Verify", "1"]


@pytest.mark.parametrize(
    ("algorithms", "role", "accepted"),
    [
        ("ECDSA+SHA384:ECDSA+SHA256", KeyRole.IDEVID, True),
        ("ECDSA+SHA384:ECDSA+SHA256", KeyRole.LDEVID, True),
        ("ECDSA+SHA512", KeyRole.LDEVID, True),
        ("ECDSA+SHA384", KeyRole.IDEVID, False),
    ],
)
def test_tls_1_2_servers_that_prefer_other_hashes(
    tpm: EsapiTpm,
    owner: OwnerAuthority,
    site: trustme.CA,
    openssl_server: list[str],
    algorithms: str,
    role: KeyRole,
    *,
    accepted: bool,
) -> None:
    tpm.create_ldevid()
    certificate = owner.issue(tpm.csr(role, "device-1", []))
    context = client_context(tpm, role, certificate, site, ssl.TLSVersion.TLSv1_2)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    command = [*openssl_server, "-accept", f"127.0.0.1:{port}", "-naccept", "1"]
    process = subprocess.Popen(
        [*command, "-client_sigalgs", algorithms, "-tls1_2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        line = _connect(port)
        with line:
            if accepted:
                context.wrap_socket(line, server_hostname="localhost").close()
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(line, server_hostname="localhost")
                assert isinstance(signing_failure(context), TpmRefused)
    finally:
        process.kill()
        process.communicate()


def _connect(port: int) -> socket.socket:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        threading.Event().wait(0.02)
    pytest.fail("openssl s_server did not start")
