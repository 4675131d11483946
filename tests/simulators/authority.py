"""A certificate authority for servers, LDevIDs and AI agents, made at test time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority for servers and LDevIDs, made at test time."""

    def __init__(self, name: str = "Owner CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            _builder(subject, subject, self.key.public_key(), timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The anchor."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        life: timedelta,
        *,
        host: str = "",
        at: datetime | None = None,
    ) -> x509.Certificate:
        """Issue a leaf; with ``host`` a server's."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.certificate.subject, key, life, at)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        if host:
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def server_files(self, folder: Path, host: str = "localhost") -> tuple[Path, Path]:
        """Write a server's certificate and key; return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.issue(host, key.public_key(), timedelta(days=30), host=host)
        certificate_file, key_file = folder / f"{host}.pem", folder / f"{host}.key"
        certificate_file.write_bytes(leaf.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate_file, key_file


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    life: timedelta,
    at: datetime | None = None,
) -> x509.CertificateBuilder:
    now = at or datetime.now(UTC)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
    )
