"""Certificates of TPM makers, read from the bytes as signed, with the faults seen in the field.

A strict X.509 reader refuses real EK certificates: names whose SET OF is not in DER order, keys
named RSAES-OAEP, parameters beside ECDSA. Here each such fault is tolerated *by name* and told to
whoever judges; every bound stays. Nothing is re-encoded: the signature is verified over the
original ``tbs`` bytes.

RFC 5280, 4; TCG EK Credential Profile for TPM Family 2.0, version 2.5, 3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from attestation import der
from attestation.der import DerReader, Element
from attestation.ek.extensions import (
    AUTHORITY_KEY_ID,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    STRUCTURE,
    SUBJECT_ALT_NAME,
    SUBJECT_DIRECTORY_ATTRIBUTES,
    SUBJECT_KEY_ID,
    Extension,
    KeyUsage,
    Quirk,
    read_authority_key_id,
    read_constraints,
    read_extended_usages,
    read_extensions,
    read_key_usages,
    read_specification,
    read_subject_key_id,
)
from attestation.ek.keys import (
    CertifiedKey,
    SignatureAlgorithm,
    read_key,
    read_signature_algorithm,
    verifies,
)
from attestation.ek.names import (
    Name,
    TpmMaker,
    TpmSpecification,
    directory_names,
    read_name,
    tpm_maker,
)
from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import MAX_CERTIFICATE_BYTES
from attestation.refusals import RefusalCode

_VERSION_3: Final = 2
_MAX_SERIAL_BYTES: Final = 20
_LARGEST_SERIAL_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MakerCertificate:
    """An EK certificate, or one of the authorities above it; believed by nobody yet.

    Two are equal when their bytes are.

    Attributes:
        raw: The certificate, DER.
        tbs: TBSCertificate, the bytes that are signed.
        serial: Serial number.
        issuer: Who signed it.
        subject: Whom it names; often empty for an EK.
        not_before: Start of validity (aware).
        not_after: End of validity (aware).
        public_key: The certified key.
        signature_algorithm: How it is signed.
        signature: Signature over ``tbs``.
        extensions: By dotted OID.
        extended_usages: Extended key usages, dotted; None without the extension.
        key_usages: keyUsage; None without the extension.
        is_authority: basicConstraints cA.
        path_length: basicConstraints pathLenConstraint, or None.
        subject_key_id: subjectKeyIdentifier, or None.
        authority_key_id: keyIdentifier of authorityKeyIdentifier, or None.
        maker: Which TPM it is for; None if it does not say.
        specification: tpmSpecification, or None.
        quirks: Faults that were tolerated.
    """

    raw: bytes = field(repr=False)
    tbs: bytes = field(compare=False, repr=False)
    serial: int = field(compare=False)
    issuer: Name = field(compare=False)
    subject: Name = field(compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    public_key: CertifiedKey = field(compare=False)
    signature_algorithm: SignatureAlgorithm = field(compare=False)
    signature: bytes = field(compare=False, repr=False)
    extensions: Mapping[str, Extension] = field(compare=False, repr=False)
    extended_usages: frozenset[str] | None = field(compare=False)
    key_usages: frozenset[KeyUsage] | None = field(compare=False)
    is_authority: bool = field(compare=False)
    path_length: int | None = field(compare=False)
    subject_key_id: bytes | None = field(compare=False, repr=False)
    authority_key_id: bytes | None = field(compare=False, repr=False)
    maker: TpmMaker | None = field(compare=False)
    specification: TpmSpecification | None = field(compare=False)
    quirks: frozenset[Quirk] = field(compare=False)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the certificate's DER."""
        return hashlib.sha256(self.raw).digest()

    @property
    def is_self_issued(self) -> bool:
        """Whether subject and issuer are one name (RFC 5280, 3.2)."""
        return self.subject.key == self.issuer.key

    @property
    def display_name(self) -> str:
        """The subject for people; the issuer and serial number where it is empty."""
        if self.subject.attributes:
            return self.subject.text
        return f"no. {self.serial:x} of {self.issuer.text}"

    def signed_by(self, authority: MakerCertificate) -> bool:
        """Return whether the authority's key made this certificate's signature."""
        return verifies(
            authority.public_key.key, self.signature_algorithm, self.signature, self.tbs
        )


def parse_maker_certificate(raw: bytes) -> MakerCertificate:
    """Read one certificate, exactly as long as its own length says.

    Args:
        raw: DER, nothing before or after it; :mod:`attestation.ek.forms` takes the other forms.

    Raises:
        LimitExceeded: ``too-large``.
        MalformedInput: ``ek-certificate-malformed``, with the field and the reason.
        Unsupported: ``ek-key-not-accepted``.
    """
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(raw)} bytes, at most {MAX_CERTIFICATE_BYTES} are accepted",
            structure=STRUCTURE,
        )
    try:
        return _certificate(raw)
    except MalformedInput as error:
        raise MalformedInput(
            RefusalCode.EK_CERTIFICATE_MALFORMED,
            error.reason,
            structure=error.structure or STRUCTURE,
            offset=error.offset,
        ) from error


def _certificate(raw: bytes) -> MakerCertificate:
    outer = DerReader(raw, STRUCTURE)
    whole = DerReader(outer.next("Certificate", der.SEQUENCE).body, STRUCTURE)
    outer.end()
    tbs = whole.next("tbsCertificate", der.SEQUENCE)
    outside = whole.next("signatureAlgorithm", der.SEQUENCE)
    unused, signature = der.bit_string(whole.next("signatureValue", der.BIT_STRING))
    whole.end()
    if unused:
        raise _malformed("the signature is not a whole number of octets")
    quirks: set[Quirk] = set()
    body = _read_body(tbs, quirks)
    algorithm = read_signature_algorithm(outside)
    if body.algorithm.oid != algorithm.oid or (
        body.algorithm != algorithm and body.algorithm.plain and algorithm.plain
    ):
        raise _malformed("the two signature algorithms inside differ (RFC 5280, 4.1.1.2)")
    if not (algorithm.plain and body.algorithm.plain):
        quirks.add(Quirk.SIGNATURE_PARAMETERS)
    return _with_extensions(raw, tbs.raw, body, algorithm, signature, quirks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """TBSCertificate without what its extensions mean."""

    serial: int
    algorithm: SignatureAlgorithm
    issuer: Name
    subject: Name
    not_before: datetime
    not_after: datetime
    key: CertifiedKey
    extensions: dict[str, Extension]


def _read_body(tbs: Element, quirks: set[Quirk]) -> _Body:
    reader = DerReader(tbs.body, STRUCTURE)
    version = DerReader(reader.next("version", 0xA0).body, STRUCTURE)
    if der.integer(version.next("version", der.INTEGER)) != _VERSION_3:
        raise _malformed("the version is not v3")
    version.end()
    serial = _serial(reader.next("serialNumber", der.INTEGER), quirks)
    algorithm = read_signature_algorithm(reader.next("signature", der.SEQUENCE))
    issuer = read_name(reader.next("issuer", der.SEQUENCE))
    dates = DerReader(reader.next("validity", der.SEQUENCE).body, STRUCTURE)
    not_before, not_after = (der.moment(dates.next(name)) for name in ("notBefore", "notAfter"))
    dates.end()
    if not_after < not_before:
        raise _malformed("notAfter lies before notBefore")
    subject = read_name(reader.next("subject", der.SEQUENCE))
    key = read_key(reader.next("subjectPublicKeyInfo", der.SEQUENCE))
    reader.optional("issuerUniqueID", 0x81)
    reader.optional("subjectUniqueID", 0x82)
    extensions = reader.optional("extensions", 0xA3)
    reader.end()
    if not (issuer.sets_ordered and subject.sets_ordered):
        quirks.add(Quirk.SET_ORDER)
    if key.is_oaep:
        quirks.add(Quirk.OAEP_KEY)
    return _Body(
        serial=serial,
        algorithm=algorithm,
        issuer=issuer,
        subject=subject,
        not_before=not_before,
        not_after=not_after,
        key=key,
        extensions=read_extensions(extensions, quirks) if extensions else {},
    )


def _serial(element: Element, quirks: set[Quirk]) -> int:
    if len(element.body) > _LARGEST_SERIAL_BYTES:
        raise _malformed(f"the serial number has more than {_LARGEST_SERIAL_BYTES} octets")
    serial = der.integer(element)
    if serial <= 0:
        quirks.add(Quirk.SERIAL_NOT_POSITIVE)
    if len(element.body) > _MAX_SERIAL_BYTES:
        quirks.add(Quirk.SERIAL_LONG)
    if not der.is_minimal(element):
        quirks.add(Quirk.INTEGER_NOT_MINIMAL)
    return serial


def _with_extensions(
    raw: bytes,
    tbs: bytes,
    body: _Body,
    algorithm: SignatureAlgorithm,
    signature: bytes,
    quirks: set[Quirk],
) -> MakerCertificate:
    found = body.extensions
    is_authority, path_length = read_constraints(found.get(BASIC_CONSTRAINTS), quirks)
    usages = read_key_usages(found.get(KEY_USAGE))
    if usages is None:
        quirks.add(Quirk.USAGE_ABSENT)
    alternative = found.get(SUBJECT_ALT_NAME)
    names = directory_names(alternative.value) if alternative else ()
    if alternative and not alternative.critical and not body.subject.attributes:
        quirks.add(Quirk.NAME_NOT_CRITICAL)
    if not all(name.sets_ordered for name in names):
        quirks.add(Quirk.SET_ORDER)
    return MakerCertificate(
        raw=raw,
        tbs=tbs,
        serial=body.serial,
        issuer=body.issuer,
        subject=body.subject,
        not_before=body.not_before,
        not_after=body.not_after,
        public_key=body.key,
        signature_algorithm=algorithm,
        signature=signature,
        extensions=MappingProxyType(found),
        extended_usages=read_extended_usages(found.get(EXTENDED_KEY_USAGE)),
        key_usages=usages,
        is_authority=is_authority,
        path_length=path_length,
        subject_key_id=read_subject_key_id(found.get(SUBJECT_KEY_ID)),
        authority_key_id=read_authority_key_id(found.get(AUTHORITY_KEY_ID)),
        maker=tpm_maker(names),
        specification=read_specification(found.get(SUBJECT_DIRECTORY_ATTRIBUTES), quirks),
        quirks=frozenset(quirks),
    )


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.EK_CERTIFICATE_MALFORMED, reason, structure=STRUCTURE)
