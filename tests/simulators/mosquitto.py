"""A real mosquitto on a free port: TLS, client certificates as names, the ACL of docs/mqtt.md."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.demo.processes import free_port

ACL = Path(__file__).parents[2] / "deploy" / "examples" / "mosquitto.acl"


@dataclass(frozen=True)
class Identity:
    """A client certificate and its key."""

    name: str
    certificate: Path
    key: Path


class MosquittoProcess:
    """One mosquitto on a free port of 127.0.0.1: mutual TLS, the CN is the user name.

    It can be stopped and started again on the same port.
    """

    def __init__(
        self, folder: Path, *, clients: Path, certificate: Path, key: Path, access: str
    ) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "acl").write_text(access)
        (folder / "acl").chmod(0o600)
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\ncafile {clients}\ncertfile {certificate}\n"
            f"keyfile {key}\nrequire_certificate true\nuse_identity_as_username true\n"
            f"allow_anonymous false\nacl_file {folder / 'acl'}\npersistence false\n"
            "user root\nlog_dest stderr\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and wait until it listens."""
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if program is None:
            pytest.fail("mosquitto is not installed; run make setup")
        log = self.folder / "mosquitto.log"
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [program, "-c", str(self.folder / "mosquitto.conf")], stderr=sink, stdout=sink
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail(log.read_text())

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


class Mosquitto(MosquittoProcess):
    """A broker with a CA of its own and the access list that we ship."""

    def __init__(self, folder: Path, *, extra_client_ca: bytes = b"") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker CA")])
        ca = self._certificate(self._ca_name, self._ca_key.public_key(), is_ca=True)
        self.ca = folder / "ca.pem"
        ca_pem = ca.public_bytes(serialization.Encoding.PEM)
        self.ca.write_bytes(ca_pem)
        clients = folder / "clients.pem"
        clients.write_bytes(ca_pem + extra_client_ca)
        server = self.identity("server")
        super().__init__(
            folder,
            clients=clients,
            certificate=server.certificate,
            key=server.key,
            access=ACL.read_text(),
        )

    def identity(self, name: str) -> Identity:
        """Make a certificate whose CN is ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._certificate(subject, key.public_key(), is_ca=False)
        made = Identity(name, self.folder / f"{name}.pem", self.folder / f"{name}.key")
        made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_ca: bool
    ) -> x509.Certificate:
        at = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._ca_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(hours=1))
            .not_valid_after(at + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(self._ca_key, hashes.SHA256())
        )

    def settings(self, identity: Identity) -> str:
        """[mqtt] for a verifier."""
        return f"""
[mqtt]
host = "localhost"
port = {self.port}
ca = "{self.ca}"
certificate = "{identity.certificate}"
key = "{identity.key}"
"""


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()
