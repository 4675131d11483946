"""X.509 certificates of devices: bounded parsing, names of hardware, profiles of IDevID and IAK.

Whether a certificate is to be *believed* is decided by the verifier's trust anchors; here we only
read what it says and whether it is of the right kind (IEEE 802.1AR-2018 8, TCG "TPM 2.0 Keys for
Device Identity and Attestation" 1.10 section 8).
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import (
    LimitExceeded,
    MalformedInput,
    Unsupported,
    UntrustedEndorsement,
)
from attestation.limits import MAX_CERTIFICATE_BYTES
from attestation.refusals import RefusalCode

TPM_HARDWARE_TYPE: Final = x509.ObjectIdentifier("2.23.133.1.2")
"""hwType of a TPM 2.0 (TCG OID registry, tcg-tpm20)."""

HARDWARE_MODULE_NAME: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4")
"""id-on-hardwareModuleName (RFC 4108, section 5)."""

PERMANENT_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.3")
"""id-on-permanentIdentifier (RFC 4043, section 2)."""

EK_CERTIFICATE_SHA256: Final = x509.ObjectIdentifier("2.23.133.12.1")
"""tcg-on-ekPermIdSha256: a permanent identifier is the SHA-256 of an EK certificate, in hex."""

ATTESTATION_KEY_USAGE: Final = x509.ObjectIdentifier("2.23.133.8.3")
"""tcg-kp-AIKCertificate: extended key usage of an IAK certificate."""

ENDORSEMENT_KEY_USAGE: Final = x509.ObjectIdentifier("2.23.133.8.1")
"""tcg-kp-EKCertificate: extended key usage of an EK certificate."""

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for certificates, lists and keys that are not as they should be."""

_STRUCTURE: Final = "Certificate"
_MAX_SERIAL_CHARS: Final = 64
"""ub-serial-number (RFC 5280, appendix A.1)."""


@asn1.sequence
class _HardwareModuleName:
    """HardwareModuleName ::= SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }."""

    hardware_type: x509.ObjectIdentifier
    serial_number: bytes


@asn1.sequence
class _PermanentIdentifier:
    """PermanentIdentifier ::= SEQUENCE { identifierValue UTF8String, assigner OBJECT IDENTIFIER }.

    Both are OPTIONAL in RFC 4043; of an EK certificate both are there.
    """

    value: str
    assigner: x509.ObjectIdentifier


def parse_certificate(der: bytes) -> x509.Certificate:
    """Read one DER certificate, with every part that is parsed late forced now.

    Args:
        der: One certificate, at most ``MAX_CERTIFICATE_BYTES``, nothing after it.

    Returns:
        An X.509 version 3 certificate whose names, dates, extensions and key can be read without
        further errors.

    Raises:
        LimitExceeded: If it is too large.
        MalformedInput: ``certificate-malformed`` if it is not one well-formed certificate.
        Unsupported: If its key is of a kind we cannot read.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(der)} bytes, at most {MAX_CERTIFICATE_BYTES} are accepted",
            structure=_STRUCTURE,
        )
    try:
        certificate = x509.load_der_x509_certificate(der)
        _force(certificate)
    except UnsupportedAlgorithm as error:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM,
            "the certificate's key is of a kind we cannot read; use ECDSA P-256 or P-384, or RSA",
            structure=_STRUCTURE,
        ) from error
    except UNREADABLE as error:
        raise _malformed(f"not one well-formed DER certificate: {str(error)[:120]}") from error
    if certificate.version is not x509.Version.v3:
        raise _malformed(f"version is {certificate.version.name}, wanted v3")
    return certificate


def spki_der(certificate: x509.Certificate) -> bytes:
    """Return the certificate's SubjectPublicKeyInfo, DER; compare with ``TpmPublic.spki_der``."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def device_serial(certificate: x509.Certificate) -> str:
    """Return the subject's serialNumber (OID 2.5.4.5; IEEE 802.1AR-2018 8.6).

    Raises:
        UntrustedEndorsement: ``certificate-profile-wrong`` unless there is exactly one, of 1 to 64
            characters.
    """
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)
    if len(found) != 1:
        raise _profile_wrong(f"the subject has {len(found)} serialNumber attributes, wanted one")
    serial = found[0].value
    if not isinstance(serial, str) or not 1 <= len(serial) <= _MAX_SERIAL_CHARS:
        raise _profile_wrong(
            f"the subject's serialNumber has {len(serial)} characters, wanted 1 to "
            f"{_MAX_SERIAL_CHARS}"
        )
    return serial


def hardware_module_name(hardware_type: x509.ObjectIdentifier, serial: bytes) -> x509.OtherName:
    """Return a subjectAltName entry that names a hardware module (RFC 4108, section 5).

    Args:
        hardware_type: Kind of module, e.g. :data:`TPM_HARDWARE_TYPE`.
        serial: Its serial number, as bytes.
    """
    value = _HardwareModuleName(hardware_type=hardware_type, serial_number=serial)
    return x509.OtherName(HARDWARE_MODULE_NAME, asn1.encode_der(value))


def ek_identifier(ek_certificate_sha256: bytes) -> x509.OtherName:
    """Return a subjectAltName entry that names a TPM by its EK certificate.

    RFC 4043 section 2 with the assigner of TCG Device Identity 1.10, 8.

    Args:
        ek_certificate_sha256: SHA-256 of the EK certificate's DER.
    """
    value = _PermanentIdentifier(value=ek_certificate_sha256.hex(), assigner=EK_CERTIFICATE_SHA256)
    return x509.OtherName(PERMANENT_IDENTIFIER, asn1.encode_der(value))


def hardware_module(certificate: x509.Certificate) -> tuple[x509.ObjectIdentifier, bytes] | None:
    """Return (hwType, hwSerialNum) of the subjectAltName's HardwareModuleName (RFC 4108, 5).

    Returns:
        None if the certificate names no hardware module.

    Raises:
        MalformedInput: ``certificate-malformed`` if the entry is not strict DER of that type.
        UntrustedEndorsement: ``certificate-profile-wrong`` if it names more than one.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    found = [
        name.value
        for name in names.get_values_for_type(x509.OtherName)
        if name.type_id == HARDWARE_MODULE_NAME
    ]
    if not found:
        return None
    if len(found) > 1:
        raise _profile_wrong(f"{len(found)} hardware modules are named, wanted at most one")
    try:
        module = asn1.decode_der(_HardwareModuleName, found[0])
    except ValueError as error:
        raise _malformed("the HardwareModuleName is not DER as RFC 4108 wants it") from error
    return module.hardware_type, module.serial_number


def check_idevid_profile(certificate: x509.Certificate) -> None:
    """Check that a certificate is an IDevID's: an end entity that signs and names its device.

    IEEE 802.1AR-2018 8 and TCG Device Identity 1.10, 8.2: not a CA, keyUsage digitalSignature,
    subject serialNumber, not the certificate of an attestation or endorsement key; a
    HardwareModuleName, if there, must be readable.

    Raises:
        UntrustedEndorsement: ``certificate-profile-wrong``.
        MalformedInput: If its HardwareModuleName is malformed.
    """
    _require_signing_end_entity(certificate)
    usages = _extended_usages(certificate)
    if usages & {ATTESTATION_KEY_USAGE, ENDORSEMENT_KEY_USAGE}:
        raise _profile_wrong(
            "its extended key usage is that of an attestation or endorsement key; an IDevID "
            "certificate was wanted"
        )
    device_serial(certificate)
    hardware_module(certificate)


def check_iak_profile(certificate: x509.Certificate) -> None:
    """Check that a certificate is an IAK's: an end entity that signs, usage tcg-kp-AIKCertificate.

    TCG Device Identity 1.10, 8.3.

    Raises:
        UntrustedEndorsement: ``certificate-profile-wrong``.
        MalformedInput: If its HardwareModuleName is malformed.
    """
    _require_signing_end_entity(certificate)
    if ATTESTATION_KEY_USAGE not in _extended_usages(certificate):
        raise _profile_wrong(
            f"extended key usage {ATTESTATION_KEY_USAGE.dotted_string} is missing; an IAK "
            "certificate was wanted"
        )
    hardware_module(certificate)


def _force(certificate: x509.Certificate) -> None:
    """Touch every lazily parsed part that we or the chain validator use."""
    certificate.public_key()
    for part in ("subject", "issuer", "extensions", "serial_number", "not_valid_before_utc"):
        getattr(certificate, part)
    if certificate.not_valid_after_utc < certificate.not_valid_before_utc:
        raise ValueError("notAfter lies before notBefore")


def _require_signing_end_entity(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is not None and constraints.ca:
        raise _profile_wrong("it is a CA certificate; a device's own was wanted")
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise _profile_wrong("keyUsage is missing, wanted digitalSignature") from error
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise _profile_wrong(
            "keyUsage must allow digitalSignature and neither keyCertSign nor cRLSign"
        )


def _extended_usages(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(usages)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CERTIFICATE_MALFORMED, reason, structure=_STRUCTURE)


def _profile_wrong(reason: str) -> UntrustedEndorsement:
    return UntrustedEndorsement(RefusalCode.CERTIFICATE_PROFILE_WRONG, reason, structure=_STRUCTURE)
