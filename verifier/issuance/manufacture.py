"""Judge a manufacture request (TCG-CSR-IDEVID) and sign IDevID and IAK certificates.

For pilot lines and tests: a manufacturer's CA in a box. What it proves: the IDevID key signed the
request, the attestation key certified it, both have the attributes of their templates, and the
serial is the one on the line's list. It does not bind the keys to an endorsement key (credential
activation): whoever runs it must hold the device in their hands.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from attestation.errors import AttestationError, IdentityMismatch, VerificationError
from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import TcgCsrIdevid, prove_device_keys
from attestation.tpm.public import TpmPublic
from verifier.issuance.enrol import device_id_from_serial
from verifier.issuance.profiles import Issuer, iak_certificate, idevid_certificate

_SERIAL: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z ._:/-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedManufacture:
    """A manufacture request whose proofs held.

    Attributes:
        hardware_serial: prodSerial.
        model: prodModel.
        idevid: The identity key.
        iak: The attestation key.
    """

    hardware_serial: str
    model: str
    idevid: TpmPublic
    iak: TpmPublic


@dataclass(frozen=True, slots=True, kw_only=True)
class ManufacturedIdentity:
    """The two certificates that a device leaves the factory with."""

    idevid: x509.Certificate
    iak: x509.Certificate


def judge_manufacture(
    request: TcgCsrIdevid, *, inventory: Container[str] | None = None
) -> AcceptedManufacture:
    """Judge one TCG-CSR-IDEVID (TCG Device Identity 1.10, 6.1.2).

    Args:
        request: From :func:`attestation.tpm.csr_idevid.parse`.
        inventory: Serials that the line may make; None to take any.

    Raises:
        VerificationError: ``manufacture-request-invalid`` for a serial that is not usable or not
            in the inventory; else the code of the proof that does not hold.
        InputError: If a structure inside is malformed.
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
    return AcceptedManufacture(
        hardware_serial=serial, model=model, idevid=keys.idevid, iak=keys.iak
    )


def issue_identity(
    accepted: AcceptedManufacture, issuer: Issuer, *, serials: tuple[int, int], at: datetime
) -> ManufacturedIdentity:
    """Sign the IDevID and IAK certificates of one device.

    Args:
        accepted: From :func:`judge_manufacture`.
        issuer: The manufacturer's CA.
        serials: Two serial numbers, each from ``certificate_serial``.
        at: Now (aware); both certificates never expire (IEEE 802.1AR-2018, 8.7).
    """
    serial = accepted.hardware_serial
    return ManufacturedIdentity(
        idevid=idevid_certificate(serial, accepted.idevid.key, issuer, serial=serials[0], at=at),
        iak=iak_certificate(serial, accepted.iak.key, issuer, serial=serials[1], at=at),
    )


def _text(raw: bytes, field: str) -> str:
    try:
        return raw.decode("ascii").strip("\x00 ")
    except UnicodeDecodeError as error:
        raise _invalid(f"{field} is not ASCII") from error


def _invalid(reason: str) -> VerificationError:
    return IdentityMismatch(
        RefusalCode.MANUFACTURE_REQUEST_INVALID, reason, structure="TCG_CSR_IDEVID_CONTENT"
    )
