"""Judge a manufacture request (TCG-CSR-IDEVID) and sign IDevID and IAK certificates.

For pilot lines and tests: a manufacturer's CA in a box. What it proves: the IDevID key signed the
request, the attestation key certified it, both have the attributes of their templates, and the
serial is the one on the line's list, and, as the terms say, an EK certificate in the request is one
of a TPM maker. That the keys live in the TPM of that endorsement key is proven by credential
activation (:mod:`verifier.issuance.line`); without it, whoever runs the line must hold the device
in their hands.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from attestation.ek.forms import read_certificate
from attestation.errors import (
    AttestationError,
    IdentityMismatch,
    InputError,
    VerificationError,
)
from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import TcgCsrIdevid, prove_device_keys
from attestation.tpm.public import TpmPublic, parse_public
from verifier.endorsement.ek import EkEndorsement, EkRules, judge_ek
from verifier.endorsement.firmware import Version, version_from_quote
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.issuance.credential_activation import EkKey
from verifier.issuance.enrol import device_id_from_serial
from verifier.issuance.profiles import Issuer, Residency, iak_certificate, idevid_certificate

_SERIAL: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z ._:/-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EkTerms:
    """What a line asks of EK certificates in requests.

    Attributes:
        roots: The TPM makers believed.
        required: Whether a request without one is refused.
        rules: What is asked of the certificate; None for the strictest.
        allowed: SHA-256 digests of endorsement keys (SubjectPublicKeyInfo, DER) that are taken
            without a certificate.
    """

    roots: VendorRoots
    required: bool = False
    rules: EkRules | None = None
    allowed: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedManufacture:
    """A manufacture request whose proofs held.

    Attributes:
        hardware_serial: prodSerial.
        model: prodModel.
        idevid: The identity key.
        iak: The attestation key.
        ek: The TPM's endorsement; None if there was none, or nobody asked.
        allowed_ek: The endorsement key of a TPM without certificate that stands on the line's list.
    """

    hardware_serial: str
    model: str
    idevid: TpmPublic
    iak: TpmPublic
    ek: EkEndorsement | None = None
    allowed_ek: TpmPublic | None = None

    @property
    def device(self) -> DeviceId:
        """The name that the device will have: of two serials with one name, one is made."""
        return device_id_from_serial(self.hardware_serial)

    @property
    def ek_key(self) -> EkKey | None:
        """The endorsement key to challenge; None if none is believed."""
        if self.ek is not None:
            return self.ek.certificate.public_key.key
        return None if self.allowed_ek is None else self.allowed_ek.key

    @property
    def ek_sha256(self) -> bytes:
        """SHA-256 of the endorsement key's SubjectPublicKeyInfo; empty if none is believed."""
        if self.ek is not None:
            return hashlib.sha256(self.ek.certificate.public_key.spki_der).digest()
        return b"" if self.allowed_ek is None else hashlib.sha256(self.allowed_ek.spki_der).digest()

    @property
    def ek_certificate_sha256(self) -> bytes:
        """SHA-256 of the EK certificate; empty without one."""
        return b"" if self.ek is None else self.ek.certificate.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class ManufacturedIdentity:
    """The two certificates that a device leaves the factory with."""

    idevid: x509.Certificate
    iak: x509.Certificate


def judge_manufacture(
    request: TcgCsrIdevid,
    *,
    inventory: Container[str] | None = None,
    ek: EkTerms | None = None,
    at: datetime | None = None,
) -> AcceptedManufacture:
    """Judge one TCG-CSR-IDEVID (TCG Device Identity 1.10, 6.1.2).

    Args:
        request: From :func:`attestation.tpm.csr_idevid.parse`.
        inventory: Serials that the line may make; None to take any.
        ek: What is asked of EK certificates; None asks nothing.
        at: Now (aware); wanted with ``ek``.

    Raises:
        VerificationError: ``manufacture-request-invalid`` for a serial that is not usable or not
            in the inventory, or a missing EK certificate; else the code of the proof that does
            not hold.
        InputError: If a structure inside is malformed.
        ValueError: If ``ek`` is given without ``at``.
    """
    serial = _text(request.content.product_serial, "prodSerial")
    model = (
        _text(request.content.product_model, "prodModel") if request.content.product_model else ""
    )
    if not _SERIAL.fullmatch(serial):
        raise _invalid("prodSerial must be 1 to 64 letters, digits and . _ : / - or blanks")
    try:
        device_id_from_serial(serial)
    except AttestationError as error:
        raise _invalid(f"prodSerial gives no device id: {error.reason}") from error
    if inventory is not None and serial not in inventory:
        raise _invalid(f"serial {serial!r} is not in the inventory of this line")
    keys = prove_device_keys(request)
    content = request.content
    allowed = None if ek is None or content.ek_certificate else _allowed(content.ca_data, ek)
    return AcceptedManufacture(
        hardware_serial=serial,
        model=model,
        idevid=keys.idevid,
        iak=keys.iak,
        ek=None
        if ek is None or allowed
        else _endorsed(content.ek_certificate, ek, at, version_from_quote(keys.firmware_version)),
        allowed_ek=allowed,
    )


def issue_identity(
    accepted: AcceptedManufacture,
    issuer: Issuer,
    *,
    serials: tuple[int, int],
    at: datetime,
    resident: bool = False,
) -> ManufacturedIdentity:
    """Sign the IDevID and IAK certificates of one device.

    Args:
        accepted: From :func:`judge_manufacture`.
        issuer: The manufacturer's CA.
        serials: Two serial numbers, each from ``certificate_serial``.
        at: Now (aware); both certificates never expire (IEEE 802.1AR-2018, 8.7).
        resident: Whether credential activation proved that the keys live in the TPM of
            ``accepted.ek_key``; the certificates say so, and name the EK certificate.
    """
    serial = accepted.hardware_serial
    proof = (
        Residency(ek_certificate_sha256=accepted.ek_certificate_sha256)
        if resident and accepted.ek_key is not None
        else None
    )
    idevid = idevid_certificate(
        serial, accepted.idevid.key, issuer, serial=serials[0], at=at, residency=proof
    )
    iak = iak_certificate(
        serial, accepted.iak.key, issuer, serial=serials[1], at=at, residency=proof
    )
    return ManufacturedIdentity(idevid=idevid, iak=iak)


def read_inventory(text: str) -> frozenset[str]:
    """Read a line's list of serials: one a line; blank lines and lines that begin with # are none.

    Raises:
        IdentityMismatch: ``manufacture-request-invalid`` if a serial is not usable, or two of them
            are one, or would name one device.
    """
    seen: dict[str, int] = {}
    serials: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        serial = line.strip()
        if not serial or serial.startswith("#"):
            continue
        if not _SERIAL.fullmatch(serial):
            raise _invalid(f"line {number} of the inventory is no serial that can be made")
        name = str(device_id_from_serial(serial))
        if name in seen:
            raise _invalid(
                f"line {number} of the inventory: {serial!r} would be the device of line "
                f"{seen[name]} again"
            )
        seen[name] = number
        serials.append(serial)
    return frozenset(serials)


def _allowed(ca_data: bytes, terms: EkTerms) -> TpmPublic | None:
    """Return the key that a TPM without EK certificate names, if it stands on the list.

    Our devices put its TPMT_PUBLIC into prodCaData, which is for CA and device to agree on.
    """
    if not ca_data or not terms.allowed:
        return None
    try:
        public = parse_public(ca_data)
    except InputError:  # somebody else's use of the field
        return None
    return public if hashlib.sha256(public.spki_der).digest() in terms.allowed else None


def _endorsed(
    raw: bytes, terms: EkTerms, at: datetime | None, runs: Version
) -> EkEndorsement | None:
    """Judge the EK certificate of a request, as read from NV: padding may follow it.

    Judged with it is the firmware that the TPM ``runs`` now.
    """
    if at is None:
        raise ValueError("an EK certificate is judged at a moment")
    if not raw:
        if terms.required:
            raise _invalid("there is no EK certificate in it, and this line wants one")
        return None
    certificate = read_certificate(raw, from_nv=True)
    return judge_ek(certificate, (), terms.roots, at, rules=terms.rules, firmware=runs)


def _text(raw: bytes, field: str) -> str:
    try:
        return raw.decode("ascii").strip("\x00 ")
    except UnicodeDecodeError as error:
        raise _invalid(f"{field} is not ASCII") from error


def _invalid(reason: str) -> VerificationError:
    return IdentityMismatch(
        RefusalCode.MANUFACTURE_REQUEST_INVALID, reason, structure="TCG_CSR_IDEVID_CONTENT"
    )
