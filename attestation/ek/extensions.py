"""Extensions of TPM makers' certificates, and the names of the faults that are tolerated.

RFC 5280, 4.2; TCG EK Credential Profile for TPM Family 2.0, version 2.5, 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from attestation import der
from attestation.der import DerReader, Element
from attestation.ek.names import TpmSpecification, tpm_specification
from attestation.errors import MalformedInput
from attestation.limits import MAX_CERTIFICATE_EXTENSIONS
from attestation.refusals import RefusalCode

STRUCTURE: Final = "EK certificate"

SUBJECT_KEY_ID: Final = "2.5.29.14"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALT_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
CERTIFICATE_POLICIES: Final = "2.5.29.32"
AUTHORITY_KEY_ID: Final = "2.5.29.35"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
SUBJECT_DIRECTORY_ATTRIBUTES: Final = "2.5.29.9"


@unique
class Quirk(StrEnum):
    """A fault that is tolerated, and named."""

    NV_HEADER = "nv-header"
    """The TPM 1.2 era's header (10 01 00, length) stands before the certificate."""
    NV_PADDING = "nv-padding"
    """The NV index is larger than the certificate; the rest is 00 or FF."""
    SET_ORDER = "set-order"
    """A SET OF in a name is not in DER order (Nuvoton)."""
    OAEP_KEY = "rsaes-oaep-key"
    """The key is named RSAES-OAEP, not rsaEncryption (STMicroelectronics)."""
    SIGNATURE_PARAMETERS = "signature-parameters"
    """The signature algorithm has parameters its standard forbids, or lacks those it wants."""
    SERIAL_NOT_POSITIVE = "serial-not-positive"
    """The serial number is zero or negative."""
    SERIAL_LONG = "serial-long"
    """The serial number has more than 20 octets."""
    INTEGER_NOT_MINIMAL = "integer-not-minimal"
    """The serial number has a leading octet too many."""
    DEFAULT_ENCODED = "default-encoded"
    """A FALSE that is the default is written out."""
    NAME_NOT_CRITICAL = "subject-alternative-name-not-critical"
    """The subject is empty and yet the alternative name is not critical."""
    CONSTRAINTS_NOT_CRITICAL = "basic-constraints-not-critical"
    """An authority's basicConstraints is not critical."""
    USAGE_ABSENT = "key-usage-absent"
    """There is no keyUsage."""
    SPECIFICATION_UNREADABLE = "tpm-specification-unreadable"
    """The tpmSpecification is not of the profile's form."""


@unique
class KeyUsage(StrEnum):
    """Bits of keyUsage in order (RFC 5280, 4.2.1.3)."""

    DIGITAL_SIGNATURE = "digitalSignature"
    NON_REPUDIATION = "nonRepudiation"
    KEY_ENCIPHERMENT = "keyEncipherment"
    DATA_ENCIPHERMENT = "dataEncipherment"
    KEY_AGREEMENT = "keyAgreement"
    KEY_CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"
    ENCIPHER_ONLY = "encipherOnly"
    DECIPHER_ONLY = "decipherOnly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One extension: its criticality and the DER in its OCTET STRING."""

    critical: bool
    value: bytes


def read_extensions(wrapper: Element, quirks: set[Quirk]) -> dict[str, Extension]:
    """Read [3] Extensions, each once. Raises MalformedInput."""
    outer = DerReader(wrapper.body, STRUCTURE)
    entries = der.children(outer.next("extensions", der.SEQUENCE), STRUCTURE)
    outer.end()
    if len(entries) > MAX_CERTIFICATE_EXTENSIONS:
        raise _malformed(f"there are more than {MAX_CERTIFICATE_EXTENSIONS} extensions")
    found: dict[str, Extension] = {}
    for entry in entries:
        reader = DerReader(entry.body, STRUCTURE)
        oid = der.oid(reader.next("extnID", der.OID))
        flag = reader.optional("critical", der.BOOLEAN)
        critical = flag is not None and der.boolean(flag)
        value = reader.next("extnValue", der.OCTET_STRING)
        reader.end()
        if flag is not None and not critical:
            quirks.add(Quirk.DEFAULT_ENCODED)
        if oid in found:
            raise _malformed(f"extension {oid} stands there twice (RFC 5280, 4.2)")
        found[oid] = Extension(critical=critical, value=value.body)
    return found


def read_constraints(extension: Extension | None, quirks: set[Quirk]) -> tuple[bool, int | None]:
    """Return (cA, pathLenConstraint) of basicConstraints. Raises MalformedInput."""
    if extension is None:
        return False, None
    outer = DerReader(extension.value, "basicConstraints")
    reader = DerReader(outer.next("basicConstraints", der.SEQUENCE).body, "basicConstraints")
    outer.end()
    flag = reader.optional("cA", der.BOOLEAN)
    length = reader.optional("pathLenConstraint", der.INTEGER)
    reader.end()
    is_authority = flag is not None and der.boolean(flag)
    if flag is not None and not is_authority:
        quirks.add(Quirk.DEFAULT_ENCODED)
    if is_authority and not extension.critical:
        quirks.add(Quirk.CONSTRAINTS_NOT_CRITICAL)
    limit = None if length is None else der.integer(length)
    if limit is not None and (limit < 0 or not is_authority):
        raise _malformed("pathLenConstraint is negative, or not an authority's")
    return is_authority, limit


def read_key_usages(extension: Extension | None) -> frozenset[KeyUsage] | None:
    """Return the bits of keyUsage; None without it. Raises MalformedInput."""
    if extension is None:
        return None
    outer = DerReader(extension.value, "keyUsage")
    _, octets = der.bit_string(outer.next("keyUsage", der.BIT_STRING))
    outer.end()
    return frozenset(
        usage
        for position, usage in enumerate(KeyUsage)
        if position < 8 * len(octets) and octets[position // 8] >> (7 - position % 8) & 1
    )


def read_extended_usages(extension: Extension | None) -> frozenset[str] | None:
    """Return extKeyUsage, dotted; None without it. Raises MalformedInput."""
    if extension is None:
        return None
    outer = DerReader(extension.value, "extKeyUsage")
    entries = der.children(outer.next("extKeyUsage", der.SEQUENCE), "extKeyUsage")
    outer.end()
    return frozenset(der.oid(entry) for entry in entries)


def read_subject_key_id(extension: Extension | None) -> bytes | None:
    """Return subjectKeyIdentifier; None without it. Raises MalformedInput."""
    if extension is None:
        return None
    reader = DerReader(extension.value, "subjectKeyIdentifier")
    value = reader.next("keyIdentifier", der.OCTET_STRING).body
    reader.end()
    return value


def read_authority_key_id(extension: Extension | None) -> bytes | None:
    """Return the keyIdentifier of authorityKeyIdentifier, if any. Raises MalformedInput."""
    if extension is None:
        return None
    outer = DerReader(extension.value, "authorityKeyIdentifier")
    reader = DerReader(outer.next("authorityKeyIdentifier", der.SEQUENCE).body, STRUCTURE)
    outer.end()
    found = reader.optional("keyIdentifier", 0x80)
    return found.body if found else None


def read_specification(extension: Extension | None, quirks: set[Quirk]) -> TpmSpecification | None:
    """Return tpmSpecification; None without one that can be read."""
    if extension is None:
        return None
    try:
        return tpm_specification(extension.value)
    except MalformedInput:
        quirks.add(Quirk.SPECIFICATION_UNREADABLE)
        return None


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.EK_CERTIFICATE_MALFORMED, reason, structure=STRUCTURE)
