"""Devices and makers whose every byte is the same each time: keys from labels, fixed moments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from attestation.algorithms import HashAlgorithm
from attestation.certificates import hardware_module_name
from attestation.reader import pack
from device_agent.ports import KeyRole
from tests.simulators.soft_device import (
    IAK_ATTRIBUTES,
    IDEVID_ATTRIBUTES,
    LDEVID_ATTRIBUTES,
    SoftKey,
    SoftTpm,
)

NOW: Final = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
MADE: Final = datetime(2024, 1, 1, tzinfo=UTC)
ALWAYS: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

_ATTRIBUTES: Final = {
    KeyRole.IAK: IAK_ATTRIBUTES,
    KeyRole.IDEVID: IDEVID_ATTRIBUTES,
    KeyRole.LDEVID: LDEVID_ATTRIBUTES,
}
_HIERARCHIES: Final = {
    KeyRole.IAK: 0x4000000B,
    KeyRole.IDEVID: 0x4000000B,
    KeyRole.LDEVID: 0x40000001,
}
_ECDSA: Final = 24


def seed(label: str, size: int = 32) -> bytes:
    """Bytes that follow from a label: public knowledge, good for tests and nothing else."""
    return hashlib.shake_256(f"device-attestation conformance/{label}".encode()).digest(size)


def private_key(label: str, kind: str = "p256") -> ec.EllipticCurvePrivateKey:
    """A private key that follows from a label."""
    curve, size = {
        "p256": (ec.SECP256R1(), 31),
        "p384": (ec.SECP384R1(), 47),
        "p192": (ec.SECP192R1(), 23),
    }[kind]
    return ec.derive_private_key(int.from_bytes(seed(f"key/{label}", size)) + 1, curve)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedKey(SoftKey):
    """A key that signs the same bytes to the same signature."""

    def sign(self, message: bytes) -> bytes:
        """Return TPMT_SIGNATURE with a deterministic ECDSA (RFC 6979)."""
        private = self.private
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        digest = {32: hashes.SHA256(), 48: hashes.SHA384()}[self.scheme_hash.size]
        der = private.sign(message, ec.ECDSA(digest, deterministic_signing=True))
        width = (private.curve.key_size + 7) // 8
        numbers = (n.to_bytes(width, "big") for n in utils.decode_dss_signature(der))
        sized = b"".join(pack(">H", width) + number for number in numbers)
        return pack(">HH", self.scheme, self.scheme_hash) + sized


def fixed_key(
    label: str, role: KeyRole, *, kind: str = "p256", attributes: int | None = None
) -> FixedKey:
    """The key of a role as its template says, or with other attributes."""
    digest = {"p256": HashAlgorithm.SHA256, "p384": HashAlgorithm.SHA384}[kind]
    return FixedKey(
        private=private_key(f"{label}/{role.value}", kind),
        attributes=_ATTRIBUTES[role] if attributes is None else attributes,
        name_alg=digest,
        scheme=_ECDSA,
        scheme_hash=digest,
        policy=b"" if role is KeyRole.LDEVID else seed("policy", digest.size),
        hierarchy=_HIERARCHIES[role],
    )


class FixedTpm(SoftTpm):
    """A software TPM whose keys follow from its serial number."""

    def __init__(
        self, serial: str = "BOX-0042", *, maker: FixedMaker | None = None, kind: str = "p256"
    ) -> None:
        super().__init__(serial=serial)
        roles = (KeyRole.IAK, KeyRole.IDEVID, KeyRole.LDEVID)
        self.keys = {role: fixed_key(serial, role, kind=kind) for role in roles}
        if maker is not None:
            for role in (KeyRole.IAK, KeyRole.IDEVID):
                self.certificates[role] = maker.issue(
                    role, self.keys[role].private.public_key(), serial
                )

    def csr(self, role: KeyRole, common_name: str, _uris: object = ()) -> bytes:
        """A PKCS#10 request, the same each time; it names no URI."""
        private = self.keys[role].private
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateSigningRequestBuilder(subject)
        return builder.sign(private, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(
            Encoding.DER
        )


AIK_USAGE: Final = ObjectIdentifier("2.23.133.8.3")
EK_USAGE: Final = ObjectIdentifier("2.23.133.8.1")
_TPM2: Final = ObjectIdentifier("2.23.133.1.2")
_USAGES: Final = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]


def usage(*allowed: str) -> x509.KeyUsage:
    """Return keyUsage with these bits."""
    return x509.KeyUsage(**{name: name in allowed for name in _USAGES})


class FixedMaker:
    """A manufacturer's CA whose certificates are the same each time."""

    def __init__(
        self, name: str = "Example Devices", *, until: datetime = ALWAYS, key: str = ""
    ) -> None:
        self.name = name
        self.key = private_key(f"maker/{key or name}")
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} Root")])
        self.root = self.certify(
            self.subject,
            self.key.public_key(),
            until=until,
            extensions=[
                (x509.BasicConstraints(ca=True, path_length=None), True),
                (usage("key_cert_sign", "crl_sign"), True),
            ],
        )

    @property
    def root_der(self) -> bytes:
        """The trust anchor, DER."""
        return self.root.public_bytes(Encoding.DER)

    def certify(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey | object,
        *,
        start: datetime = MADE,
        until: datetime = ALWAYS,
        extensions: list[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        """Sign a certificate; its serial number follows from its subject."""
        number = int.from_bytes(seed(f"serial/{subject.rfc4514_string()}", 16)) >> 1 | 1
        builder = x509.CertificateBuilder(
            issuer_name=self.subject,
            subject_name=subject,
            public_key=key,  # type: ignore[arg-type]
            serial_number=number,
            not_valid_before=start,
            not_valid_after=until,
        )
        identifiers = (
            x509.SubjectKeyIdentifier.from_public_key(key),  # type: ignore[arg-type]
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
        )
        for extension in identifiers:
            builder = builder.add_extension(extension, critical=False)
        for value, critical in extensions:
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)

    def revocation_list(self, *serials: int) -> bytes:
        """A CRL that takes certificates back, DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.subject)
            .last_update(MADE)
            .next_update(ALWAYS)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(MADE)
            builder = builder.add_revoked_certificate(revoked.build())
        signed = builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)

    def issue(
        self,
        role: KeyRole,
        key: object,
        serial: str,
        *,
        start: datetime = MADE,
        until: datetime = ALWAYS,
        module: str = "",
        ca: bool = False,
    ) -> bytes:
        """Issue an IDevID or IAK certificate, DER."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.name),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{role.value} {serial}"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, serial),
            ]
        )
        names = [hardware_module_name(_TPM2, (module or serial).encode())]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=ca, path_length=None), True),
            (usage("digital_signature"), True),
            (x509.SubjectAlternativeName(names), False),
        ]
        if role is KeyRole.IAK:
            extensions.append((x509.ExtendedKeyUsage([AIK_USAGE]), False))
        return self.certify(
            subject, key, start=start, until=until, extensions=extensions
        ).public_bytes(Encoding.DER)
