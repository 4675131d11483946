"""Manufacture: keys from TCG templates, a TCG-CSR-IDEVID out, two certificates in.

Done once per device, before it has an owner. Every step may be repeated: keys that are there are
kept, certificates that are there are written over only by ones for the same keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import TcgCsrIdevidContent, build, build_content, parse
from attestation.tpm.public import TpmPublic, parse_public
from attestation.wire.manufacture_codec import (
    ActivationAnswerFile,
    decode_challenge,
    encode_answer,
)
from device_agent.errors import CertificateUnusable, SettingsInvalid, SourceUnreadable
from device_agent.ports import KeyRole, Tpm

_MANUFACTURED: Final = (KeyRole.IDEVID, KeyRole.IAK)
_MAX_TEXT: Final = 64
"""Characters of a model or serial: the certificate's serialNumber holds no more (X.520)."""


class FactoryTpm(Tpm, Protocol):
    """What manufacture needs of the TPM beyond :class:`device_agent.ports.Tpm`."""

    def create_identity_keys(self) -> None:
        """Make IDevID and IAK from their TCG templates; keeps those that are there."""
        ...

    def ek_certificate(self) -> bytes | None:
        """Return an EK certificate from NV, DER; None if the TPM came without."""
        ...

    def sign_structure(self, role: KeyRole, digest: bytes) -> bytes:
        """Sign a digest; returns a TPMT_SIGNATURE."""
        ...

    def write_certificate(self, role: KeyRole, der: bytes) -> None:
        """Write the certificate of IDEVID or IAK to NV."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ManufactureStatus:
    """How far a device is manufactured.

    Attributes:
        keys: Which of IDEVID and IAK exist.
        certificates: Which of them have a certificate in NV that is for their key.
        ek_certificate: Whether the TPM came with an EK certificate.
    """

    keys: tuple[KeyRole, ...]
    certificates: tuple[KeyRole, ...]
    ek_certificate: bool

    @property
    def complete(self) -> bool:
        """Whether the device can enrol."""
        return self.certificates == _MANUFACTURED


def make_request(tpm: FactoryTpm, *, model: str, serial: str, entropy: bytes) -> bytes:
    """Make the keys if need be and a TCG-CSR-IDEVID for both (TCG Device Identity 1.10, 13.1).

    Args:
        tpm: The device's TPM.
        model: Product model, printable ASCII.
        serial: Product serial, printable ASCII; becomes the certificates' subject serialNumber.
        entropy: At least 16 random bytes, for the padding.

    Returns:
        TCG_CSR_IDEVID, binary. The certification's extraData is the SHA-256 of model and serial,
        since at manufacture nobody has sent a nonce. A TPM without EK certificate names its
        endorsement key (TPMT_PUBLIC) in prodCaData.

    Raises:
        SettingsInvalid: If model or serial cannot stand in a certificate.
        TpmError: As :class:`device_agent.ports.Tpm` says.
    """
    for name, text in (("model", model), ("serial", serial)):
        if not 0 < len(text) <= _MAX_TEXT or not (text.isascii() and text.isprintable()):
            raise SettingsInvalid(f"the {name} must be 1 to {_MAX_TEXT} printable ASCII characters")
    tpm.create_identity_keys()
    endorsement = tpm.endorsement()
    idevid = parse_public(tpm.public_area(KeyRole.IDEVID))
    product = hashlib.sha256(f"{model}\0{serial}".encode()).digest()
    certification = tpm.certify(KeyRole.IDEVID, product)
    signing_hash = idevid.scheme[1] or HashAlgorithm.SHA256
    content = build_content(
        TcgCsrIdevidContent(
            hash=signing_hash,
            product_model=model.encode(),
            product_serial=serial.encode(),
            ca_data=b"" if endorsement.certificate else endorsement.public,
            ek_certificate=endorsement.certificate or b"",
            iak_public=tpm.public_area(KeyRole.IAK),
            idevid_public=idevid.raw,
            idevid_certify=certification.attest,
            idevid_certify_signature=certification.signature,
        ),
        entropy=entropy,
    )
    return build(content, tpm.sign_structure(KeyRole.IDEVID, signing_hash.digest(content)))


def is_own_request(tpm: FactoryTpm, request: bytes, *, model: str, serial: str) -> bool:
    """Say whether a request is one that this TPM's present keys made for this product.

    Raises:
        TpmError: As :class:`device_agent.ports.Tpm` says.
    """
    if not request or not all(tpm.has_key(role) for role in _MANUFACTURED):
        return False
    try:
        content = parse(request).content
    except AttestationError:
        return False
    return (content.product_model, content.product_serial) == (
        model.encode(),
        serial.encode(),
    ) and (
        content.idevid_public == tpm.public_area(KeyRole.IDEVID)
        and content.iak_public == tpm.public_area(KeyRole.IAK)
    )


def is_challenge_of(challenge: bytes, request: bytes) -> bool:
    """Say whether a challenge is about this request."""
    try:
        about = decode_challenge(challenge).request_sha256
    except AttestationError:
        return False
    return about == hashlib.sha256(request).digest()


def answer_challenge(tpm: FactoryTpm, challenge: bytes) -> bytes:
    """Unwrap the line's secret in the TPM and return the answer, a file.

    Raises:
        SettingsInvalid: If the challenge is not one.
        TpmRefused: If it is for another TPM, or for other keys than this one has now.
        TpmError: As :class:`device_agent.ports.Tpm` says.
    """
    try:
        given = decode_challenge(challenge)
    except AttestationError as error:
        raise SettingsInvalid(f"the challenge cannot be used: {error.reason}") from error
    secret = tpm.activate_credential(given.credential_blob, given.encrypted_secret)
    return encode_answer(ActivationAnswerFile(request_sha256=given.request_sha256, secret=secret))


def install(
    tpm: FactoryTpm, *, idevid_chain_der: Sequence[bytes], iak_chain_der: Sequence[bytes]
) -> ManufactureStatus:
    """Check both certificates against the TPM's keys, then write them to NV.

    Nothing is written before both are checked. A run that was cut short is completed by the next.

    Args:
        tpm: The device's TPM.
        idevid_chain_der: The IDevID certificate first, then its issuers; only the first is written:
            the issuers belong in ``[tpm] chain_file``.
        iak_chain_der: The same for the IAK.

    Raises:
        CertificateUnusable: ``certificate-malformed`` or ``certificate-key-mismatch``.
        TpmError: As :class:`device_agent.ports.Tpm` says.
    """
    chains = {KeyRole.IDEVID: idevid_chain_der, KeyRole.IAK: iak_chain_der}
    for role, chain in chains.items():
        if not chain:
            raise CertificateUnusable(
                RefusalCode.CERTIFICATE_MALFORMED, f"no {role} certificate was given"
            )
        _require_same_key(role, chain[0], parse_public(tpm.public_area(role)))
    for role, chain in chains.items():
        if _certificate(tpm, role) != chain[0]:
            tpm.write_certificate(role, chain[0])
    return status(tpm)


def status(tpm: FactoryTpm) -> ManufactureStatus:
    """Say how far this device is manufactured; writes nothing.

    Raises:
        TpmError: As :class:`device_agent.ports.Tpm` says.
    """
    keys = tuple(role for role in _MANUFACTURED if tpm.has_key(role))
    certificates = tuple(role for role in keys if _has_own_certificate(tpm, role))
    return ManufactureStatus(
        keys=keys, certificates=certificates, ek_certificate=tpm.ek_certificate() is not None
    )


def _certificate(tpm: FactoryTpm, role: KeyRole) -> bytes | None:
    """Read a certificate; None also if its index holds something else, as after a power cut."""
    try:
        return tpm.certificate(role)
    except SourceUnreadable:
        return None


def _has_own_certificate(tpm: FactoryTpm, role: KeyRole) -> bool:
    certificate = _certificate(tpm, role)
    if certificate is None:
        return False
    try:
        _require_same_key(role, certificate, parse_public(tpm.public_area(role)))
    except CertificateUnusable:
        return False
    return True


def _require_same_key(role: KeyRole, der: bytes, public: TpmPublic) -> None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except ValueError as error:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_MALFORMED, f"the {role} certificate is not X.509 DER: {error}"
        ) from error
    if spki != public.spki_der:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_KEY_MISMATCH,
            f"the {role} certificate is for another key than the one in this TPM; was it made from "
            "this device's request?",
        )
