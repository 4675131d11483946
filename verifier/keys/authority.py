"""Our own certificate authorities: the device CA, and the service CA for the TLS certificate."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from verifier.errors import SettingsInvalid
from verifier.keys.files import read_file, write_public
from verifier.keys.ring import load_private_key, store_private_key

DEVICE_CA: Final = "device-ca"
SERVICE_CA: Final = "service-ca"
TLS: Final = "tls"

CA_LIFETIME: Final = timedelta(days=3653)
TLS_LIFETIME: Final = timedelta(days=397)
BACKDATED: Final = timedelta(minutes=5)
"""Certificates begin a little earlier, for devices whose clock runs behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA: its key and its self-signed certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def load_authority(directory: Path, name: str) -> Authority:
    """Load a CA of the key directory.

    Raises:
        SettingsInvalid: If it is absent or its key does not fit its certificate.
    """
    key = load_private_key(directory / f"{name}.key.pem")
    path = directory / f"{name}.cert.pem"
    try:
        certificate = x509.load_pem_x509_certificate(read_file(path))
    except ValueError as error:
        raise SettingsInvalid(f"{path} is not a PEM certificate") from error
    if certificate.public_key() != key.public_key():
        raise SettingsInvalid(f"{path} is not the certificate of {name}.key.pem beside it")
    return Authority(key=key, certificate=certificate)


def create_authority(directory: Path, name: str, common_name: str, at: datetime) -> Authority:
    """Make a self-signed P-256 CA of ten years and write both files.

    Args:
        directory: Exists, mode 0700.
        name: File stem, ``device-ca`` or ``service-ca``.
        common_name: Subject CN.
        at: Now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    store_private_key(directory / f"{name}.key.pem", key)
    authority = Authority(key=key, certificate=certificate)
    write_public(directory / f"{name}.cert.pem", authority.pem)
    return authority


def create_tls_certificate(
    directory: Path, authority: Authority, hostnames: tuple[str, ...], at: datetime
) -> None:
    """Make the server's TLS key and certificate, signed by the service CA.

    Args:
        directory: Where ``tls.key.pem`` and ``tls.cert.pem`` go.
        authority: The service CA.
        hostnames: DNS names and IP addresses; the first becomes the CN.
        at: Now.

    Raises:
        SettingsInvalid: If there is no host name.
    """
    if not hostnames:
        raise SettingsInvalid("a TLS certificate needs at least one host name")
    create_service_certificate(
        certificate_path=directory / f"{TLS}.cert.pem",
        key_path=directory / f"{TLS}.key.pem",
        authority=authority,
        common_name=hostnames[0],
        hostnames=hostnames,
        at=at,
    )


def create_service_certificate(
    *,
    certificate_path: Path,
    key_path: Path,
    authority: Authority,
    common_name: str,
    hostnames: tuple[str, ...],
    at: datetime,
) -> None:
    """Make a key and a certificate for a service beside the verifier, such as an MQTT broker.

    Args:
        certificate_path: Where the PEM certificate goes (0644).
        key_path: Where the PEM key goes (0600).
        authority: The service CA.
        common_name: Subject CN; a broker may take it for the user name.
        hostnames: DNS names and IP addresses of a server; a pure client has none.
        at: Now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if hostnames else [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + TLS_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    if hostnames:
        names = x509.SubjectAlternativeName([_name(host) for host in hostnames])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    store_private_key(key_path, key)
    write_public(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
