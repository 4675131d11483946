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

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ACL = Path(__file__).parents[2] / "deploy" / "examples" / "mosquitto.acl"


@dataclass(frozen=True)
class Identity:
    """A client certificate and its key."""

    name: str
    certificate: Path
    key: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker; can be stopped and started again on the same port."""

    def __init__(self, folder: Path, *, extra_client_ca: bytes = b"") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker CA")])
        ca = self._certificate(self._ca_name, self._ca_key.public_key(), is_ca=True)
        self.ca = folder / "ca.pem"
        ca_pem = ca.public_bytes(serialization.Encoding.PEM)
        self.ca.write_bytes(ca_pem)
        (folder / "clients.pem").write_bytes(ca_pem + extra_client_ca)
        self.identity("server")
        (folder / "acl").write_text(ACL.read_text())
        (folder / "acl").chmod(0o600)
        config = f"""
listener {self.port} 127.0.0.1
cafile {folder}/clients.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl
persistence false
user root
log_dest stderr
log_type error
log_type warning
"""
        (folder / "mosquitto.conf").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

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

    def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", str(self.folder / "mosquitto.conf")], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("mosquitto did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

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
