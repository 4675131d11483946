"""Certificate profiles: what stands in each kind of certificate that we sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from attestation.certificates import (
    ATTESTATION_KEY_USAGE,
    TPM_HARDWARE_TYPE,
    ek_identifier,
    hardware_module_name,
)
from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from verifier.errors import Unavailable
from verifier.issuance.certificate_profile import LDEVID, CertificateProfile, HolderForm
from verifier.issuance.publication import Publication

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
"""Keys that we certify."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Keys that we sign with."""

SERIAL_ENTROPY_BYTES: Final = 16
"""Random bytes in a serial number; CA/Browser Forum asks for 8 at least."""

MIN_SERIAL_BITS: Final = 64
MAX_SERIAL_BITS: Final = 159
"""RFC 5280, 4.1.2.2: at most 20 octets, positive."""

BACKDATE: Final = timedelta(minutes=5)
"""How far a certificate begins before it is made, for devices whose clocks are behind."""

NO_EXPIRY: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""notAfter of a manufacturer's certificates (IEEE 802.1AR-2018, 8.7)."""

VERIFIED_TPM_RESIDENCY: Final = x509.ObjectIdentifier("2.23.133.11.1.1")
VERIFIED_TPM_FIXED: Final = x509.ObjectIdentifier("2.23.133.11.1.2")
VERIFIED_TPM_RESTRICTED: Final = x509.ObjectIdentifier("2.23.133.11.1.3")
"""certificatePolicies of TCG Device Identity 1.10, 8: what the CA verified about the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A certificate authority: its certificate and the key that belongs to it.

    Everything that a CA signs (certificates, revocation lists, OCSP answers) is made by
    ``builder.sign(issuer.key, issuer.digest)``: a key in a PKCS#11 token signs there.

    Attributes:
        certificate: The CA's own.
        key: Its private key, or what signs with it (a token, a TPM).
        chain: The CAs between it and the root, its own issuer first, without the root; empty if
            the root signed it, or it is the root.
        publication: Where its revocation lists are found, told in each certificate; None: nowhere.

    Raises:
        ValueError: If certificate and key do not belong together, or it is not a CA's.
    """

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()
    publication: Publication | None = None

    def __post_init__(self) -> None:
        if self.certificate.public_key() != self.key.public_key():
            raise ValueError("the CA certificate and its private key do not belong together")
        constraints = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        if not constraints.value.ca:
            raise ValueError("the issuer's certificate is not a CA certificate")

    @property
    def digest(self) -> hashes.SHA256 | hashes.SHA384:
        """The hash to sign with: as strong as the key."""
        return signing_digest(self.key)


def signing_digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that is as strong as a key."""
    large = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256  # noqa: PLR2004
    return hashes.SHA384() if large else hashes.SHA256()


def certificate_serial(entropy: bytes) -> int:
    """Return a serial number with 128 random bits.

    Raises:
        ValueError: If ``entropy`` is not 16 bytes.
    """
    if len(entropy) != SERIAL_ENTROPY_BYTES:
        raise ValueError(f"a serial number takes {SERIAL_ENTROPY_BYTES} random bytes")
    return 1 << (8 * SERIAL_ENTROPY_BYTES) | int.from_bytes(entropy, "big")


def spiffe_id(trust_domain: str, device: DeviceId) -> str:
    """Return the device's workload identity (SPIFFE-ID, 2)."""
    return f"spiffe://{trust_domain}/device/{device}"


def ldevid_certificate(
    device: DeviceId,
    hardware_serial: str,
    key: PublicKey,
    issuer: Issuer,
    *,
    trust_domain: str,
    serial: int,
    at: datetime,
    lifetime: timedelta,
    profile: CertificateProfile = LDEVID,
) -> x509.Certificate:
    """Sign an owner's device certificate (IEEE 802.1AR-2018 8; EAP-TLS and TLS client).

    Args:
        device: Becomes the common name and the last part of the URI.
        hardware_serial: The manufacturer's serial; becomes the subject's serialNumber.
        key: The certified key.
        issuer: The owner's CA.
        trust_domain: First part of the URI, e.g. ``fleet.example``.
        serial: From :func:`certificate_serial`.
        at: Now (aware).
        lifetime: How long it lasts; never longer than the issuer's certificate.
        profile: What it may be used for; of devices.

    Raises:
        Unavailable: ``ca-ends-too-soon``, or if the CA's key cannot be used.
        ValueError: If the profile is of agents, or the certificate would last too short or long.
    """
    require_holder(profile, HolderForm.DEVICE)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, device),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, hardware_serial),
        ]
    )
    builder = start_held(
        subject, spiffe_id(trust_domain, device), key, issuer, serial, at, lifetime, profile
    )
    return builder.sign(issuer.key, issuer.digest)


def require_holder(profile: CertificateProfile, holder: HolderForm) -> None:
    """Check whose certificates a profile is for. Raises ValueError for others."""
    if profile.holder is not holder:
        raise ValueError(f"profile {profile.name} is not for certificates of {holder.value}s")


def start_held(
    subject: x509.Name,
    uri: str,
    key: PublicKey,
    issuer: Issuer,
    serial: int,
    at: datetime,
    lifetime: timedelta,
    profile: CertificateProfile,
) -> x509.CertificateBuilder:
    """Start a certificate of the owner's, with a workload identity and a profile's usages.

    Raises:
        Unavailable: ``ca-ends-too-soon`` if the issuer's own end cuts it below the profile's bound.
        ValueError: If the issuer's certificate has ended, or it would last too short or long.
    """
    last = issuer.certificate.not_valid_after_utc
    if timedelta(0) < last - at < profile.shortest <= lifetime:
        raise Unavailable(
            RefusalCode.CA_ENDS_TOO_SOON,
            f"the issuing CA ends at {last}, and certificates of profile {profile.name} last "
            f"{profile.shortest} at least; run: verifier ca rotate",
        )
    end = min(at + lifetime, last)
    builder = _builder(subject, key, issuer, serial, at, end, profile)
    if not profile.shortest <= end - at <= profile.longest:
        raise ValueError(f"the certificate would last {end - at}, which {profile.name} forbids")
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    builder = builder.add_extension(names, critical=False)
    return builder.add_extension(profile.extended_key_usage, critical=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """Proof that keys live in the TPM of an endorsement key (credential activation).

    Attributes:
        ek_certificate_sha256: SHA-256 of the EK certificate's DER; empty if the TPM came without.
    """

    ek_certificate_sha256: bytes = b""


def idevid_certificate(
    hardware_serial: str,
    key: PublicKey,
    issuer: Issuer,
    *,
    serial: int,
    at: datetime,
    residency: Residency | None = None,
) -> x509.Certificate:
    """Sign a manufacturer's device identity certificate (IDevID; TCG Device Identity 1.10, 8.2).

    What the CA verified (certificatePolicies) and the permanentIdentifier are told only with
    ``residency``.
    """
    builder = _manufactured("IDevID", hardware_serial, key, issuer, serial, at, residency)
    if residency is not None:
        policies = _policies(VERIFIED_TPM_RESIDENCY, VERIFIED_TPM_FIXED)
        builder = builder.add_extension(policies, critical=False)
    return builder.sign(issuer.key, issuer.digest)


def iak_certificate(
    hardware_serial: str,
    key: PublicKey,
    issuer: Issuer,
    *,
    serial: int,
    at: datetime,
    residency: Residency | None = None,
) -> x509.Certificate:
    """Sign a manufacturer's attestation key certificate (IAK; TCG Device Identity 1.10, 8.3).

    ``residency`` is told as by :func:`idevid_certificate`.
    """
    builder = _manufactured("IAK", hardware_serial, key, issuer, serial, at, residency)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ATTESTATION_KEY_USAGE]), critical=False)
    if residency is not None:
        policies = _policies(VERIFIED_TPM_RESIDENCY, VERIFIED_TPM_RESTRICTED)
        builder = builder.add_extension(policies, critical=False)
    return builder.sign(issuer.key, issuer.digest)


def _manufactured(
    role: str,
    hardware_serial: str,
    key: PublicKey,
    issuer: Issuer,
    serial: int,
    at: datetime,
    residency: Residency | None,
) -> x509.CertificateBuilder:
    organisation = issuer.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    subject = x509.Name(
        [
            *organisation,
            x509.NameAttribute(NameOID.COMMON_NAME, f"{role} {hardware_serial}"[:64]),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, hardware_serial),
        ]
    )
    names = [hardware_module_name(TPM_HARDWARE_TYPE, hardware_serial.encode())]
    if residency is not None and residency.ek_certificate_sha256:
        names.append(ek_identifier(residency.ek_certificate_sha256))
    builder = _builder(subject, key, issuer, serial, at, NO_EXPIRY)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False)


def _builder(
    subject: x509.Name,
    key: PublicKey,
    issuer: Issuer,
    serial: int,
    at: datetime,
    end: datetime,
    profile: CertificateProfile | None = None,
) -> x509.CertificateBuilder:
    """Start an end-entity certificate that signs (RFC 5280, 4.2)."""
    if not MIN_SERIAL_BITS <= serial.bit_length() <= MAX_SERIAL_BITS:
        raise ValueError(
            f"serial numbers have {MIN_SERIAL_BITS} to {MAX_SERIAL_BITS} bits, not "
            f"{serial.bit_length()}"
        )
    if not issuer.certificate.not_valid_before_utc <= at < end:
        raise ValueError("the issuer's certificate is not valid at this moment")
    early = BACKDATE if profile is None else profile.backdate
    start = max((at - early).replace(microsecond=0), issuer.certificate.not_valid_before_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end.replace(microsecond=0))
    )
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_SIGNS if profile is None else profile.key_usage, True),
        (authority_key(issuer), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    if issuer.publication is not None:
        for told in issuer.publication.extensions(issuer.certificate):
            builder = builder.add_extension(told, critical=False)
    return builder


_SIGNS: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def authority_key(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    """Name the issuer's key as its own certificate names it (RFC 5280, 4.2.1.1)."""
    try:
        own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _policies(*oids: x509.ObjectIdentifier) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(oid, None) for oid in oids])
