"""A manufacturer's certificate authority made at test time; issues IDevID and IAK certificates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from device_agent.ports import KeyRole

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ALWAYS: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
MADE: Final = datetime(2024, 1, 1, tzinfo=UTC)
_HARDWARE_TYPE_TPM2: Final = bytes.fromhex("06056781050102")
"""DER of OID 2.23.133.1.2."""
_AIK_EKU: Final = ObjectIdentifier("2.23.133.8.3")


class SoftManufacturer:
    """A manufacturer CA made at test time: root, optional intermediate, IDevID and IAK issue."""

    def __init__(
        self,
        name: str = "Example Devices",
        *,
        intermediate: bool = False,
        not_before: datetime = MADE,
        not_after: datetime = ALWAYS,
    ) -> None:
        self.name = name
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = _ca(f"{name} Root", self._root_key, None, not_before, not_after)
        self._issuer_key, self.issuer = self._root_key, self.root
        if intermediate:
            self._issuer_key = ec.generate_private_key(ec.SECP256R1())
            self.issuer = _ca(
                f"{name} Issuing",
                self._issuer_key,
                (self.root, self._root_key),
                not_before,
                not_after,
            )

    @property
    def root_pem(self) -> bytes:
        """The trust anchor as PEM."""
        return self.root.public_bytes(Encoding.PEM)

    @property
    def root_der(self) -> bytes:
        """The trust anchor as DER."""
        return self.root.public_bytes(Encoding.DER)

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """DER certificates between leaf and root."""
        return () if self.issuer is self.root else (self.issuer.public_bytes(Encoding.DER),)

    def issue(
        self,
        role: KeyRole,
        public_key: PublicKey,
        serial: str,
        *,
        hardware_serial: str | None = None,
        not_before: datetime = MADE,
        not_after: datetime = ALWAYS,
        without: frozenset[str] = frozenset(),
    ) -> bytes:
        """Issue an IDevID or IAK certificate (DER) with the TCG profile.

        Args:
            role: IDEVID or IAK.
            public_key: The certified key.
            serial: Subject serialNumber.
            hardware_serial: HardwareModuleName serial; the subject's by default.
            not_before: Start.
            not_after: End; 99991231235959Z by default (IEEE 802.1AR 8.7).
            without: Leave out, to make a wrong profile: ``san``, ``serial``, ``eku``, ``usage``.
        """
        names = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.name),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{role.value} {serial}"),
        ]
        if "serial" not in without:
            names.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial))
        builder = _builder(x509.Name(names), self.issuer.subject, public_key, not_before, not_after)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuer_key.public_key()),
            critical=False,
        )
        if "usage" not in without:
            builder = builder.add_extension(_usage(ca=False), critical=True)
        if role is KeyRole.IAK and "eku" not in without:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_AIK_EKU]), critical=False)
        if "san" not in without:
            module = _hardware_module(serial if hardware_serial is None else hardware_serial)
            builder = builder.add_extension(
                x509.SubjectAlternativeName(
                    [x509.OtherName(ObjectIdentifier("1.3.6.1.5.5.7.8.4"), module)]
                ),
                critical=False,
            )
        policies = ["2.23.133.11.1.1", f"2.23.133.11.1.{3 if role is KeyRole.IAK else 2}"]
        builder = builder.add_extension(
            x509.CertificatePolicies(
                [x509.PolicyInformation(ObjectIdentifier(oid), None) for oid in policies]
            ),
            critical=False,
        )
        return builder.sign(self._issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)


def _hardware_module(serial: str) -> bytes:
    raw = serial.encode()
    body = _HARDWARE_TYPE_TPM2 + bytes([0x04, len(raw)]) + raw
    return bytes([0x30, len(body)]) + body


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)  # noqa: FBT003


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _ca(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    start: datetime,
    end: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name, signer = (subject, key) if issuer is None else (issuer[0].subject, issuer[1])
    builder = _builder(subject, issuer_name, key.public_key(), start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(ca=True), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    return builder.sign(signer, hashes.SHA256())
