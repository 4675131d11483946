"""What a manufacturing line has made and what it waits for, as its journal tells it.

The journal (entries of :mod:`verifier.issuance.log`) is all that a line remembers. A certificate
is in it before anybody holds it, so a line that stops anywhere goes on where it stopped.

Entries::

    challenged  {request, serial, ek, iak, proof, ends}      proof: SHA-256 of the wrapped secret
    proven      {request, serial, ek, iak}                   the TPM of the EK holds the IAK
    failed      {request, serial}                            a wrong answer; the challenge is spent
    issued      {request, serial, device, model, idevid_key, iak_key, ek, ek_certificate, resident,
                 idevid, iak, replaces, reason}              certificates as base64 DER
    revoked     {request, serial, certificates, reason}      serial numbers; a CRLReason's number
    listed      {request, until, revoked}                    a revocation list; its number is the
                                                             entry's

``request`` of the last two is empty: versions without these kinds ask each entry for one.

Digests are SHA-256 in hexadecimal; keys are SubjectPublicKeyInfo; ``iak`` of the first three is the
TPM Name.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.identity import DeviceId, KeyName
from verifier.issuance.manufacture import AcceptedManufacture, ManufacturedIdentity
from verifier.issuance.reasons import Reason

CHALLENGED: Final = "challenged"
PROVEN: Final = "proven"
FAILED: Final = "failed"
ISSUED: Final = "issued"
REVOKED: Final = "revoked"
LISTED: Final = "listed"

LINE_ACTIVATION_TTL: Final = timedelta(days=1)
"""A challenge may travel to the device on a memory stick and back within a shift or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDevice:
    """Both certificates of one device, as they were given.

    Attributes:
        number: Of the journal's entry.
        at: When (aware).
        serial: The manufacturer's.
        device: The name that follows from it.
        model: The product.
        request_sha256: Of the request.
        idevid_key: SHA-256 of the IDevID's SubjectPublicKeyInfo.
        iak_key: The same of the IAK.
        ek_sha256: The same of the endorsement key; empty if none was believed.
        ek_certificate_sha256: Of the EK certificate; empty without one.
        resident: Whether activation proved that the keys live in that TPM.
        idevid: IDevID certificate, DER.
        iak: IAK certificate, DER.
        replaces: Numbers of earlier entries that this one replaces.
        reason: Why; empty if it replaces none.
    """

    number: int
    at: datetime
    serial: str
    device: str
    model: str
    request_sha256: bytes
    idevid_key: bytes
    iak_key: bytes
    ek_sha256: bytes
    ek_certificate_sha256: bytes
    resident: bool
    idevid: bytes = field(repr=False)
    iak: bytes = field(repr=False)
    replaces: tuple[int, ...] = ()
    reason: str = ""

    @property
    def certificates(self) -> tuple[x509.Certificate, x509.Certificate]:
        """IDevID and IAK certificate, read."""
        return (
            x509.load_der_x509_certificate(self.idevid),
            x509.load_der_x509_certificate(self.iak),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """That a certificate was revoked.

    Attributes:
        at: When it first was (aware).
        reason: Why.
    """

    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingChallenge:
    """A challenge that was given and not answered.

    Attributes:
        ek_sha256: The endorsement key it was wrapped to.
        iak_name: The attestation key's Name.
        proof: SHA-256 of the secret: the secret itself is nowhere but in the challenge.
        ends: After this moment it is spent (aware).
    """

    ek_sha256: bytes
    iak_name: bytes
    proof: bytes
    ends: datetime


class LineRecord:
    """The journal, read: who was made, what waits, what is proven."""

    def __init__(self) -> None:
        self.made: dict[int, MadeDevice] = {}
        self.revoked: dict[int, TakenBack] = {}
        """By the certificate's serial number."""
        self._replaced: dict[int, int] = {}
        self._waiting: dict[bytes, WaitingChallenge] = {}
        self._proven: set[tuple[bytes, bytes]] = set()
        self._by_trait: dict[bytes | str, list[int]] = {}

    def apply(self, number: int, at: datetime, kind: str, entry: Mapping[str, Any]) -> None:
        """Take in one entry; kinds of other versions are passed over.

        Raises:
            KeyError: If the entry lacks something; also ValueError or TypeError.
        """
        if kind == ISSUED:
            self._apply_issued(_made(number, at, entry))
            return
        if kind == REVOKED:
            self._apply_revoked(at, entry)
            return
        if kind not in (CHALLENGED, PROVEN, FAILED):
            return
        request = bytes.fromhex(entry["request"])
        if kind == CHALLENGED:
            self._waiting[request] = WaitingChallenge(
                ek_sha256=bytes.fromhex(entry["ek"]),
                iak_name=bytes.fromhex(entry["iak"]),
                proof=bytes.fromhex(entry["proof"]),
                ends=datetime.fromisoformat(entry["ends"]),
            )
        else:
            self._waiting.pop(request, None)
            if kind == PROVEN:
                self._proven.add((bytes.fromhex(entry["ek"]), bytes.fromhex(entry["iak"])))

    def waiting(self, request_sha256: bytes) -> WaitingChallenge | None:
        """Return the challenge that a request waits with."""
        return self._waiting.get(request_sha256)

    def is_resident(self, accepted: AcceptedManufacture) -> bool:
        """Say whether the request's IAK was proven to live in the TPM of the request's EK."""
        return bool(accepted.ek_sha256) and (accepted.ek_sha256, accepted.iak.name) in self._proven

    def replaced_by(self, number: int) -> int | None:
        """Return the entry that replaces this one; None if it stands."""
        return self._replaced.get(number)

    def same(self, accepted: AcceptedManufacture) -> MadeDevice | None:
        """Return what stands for just this device: the same serial and the same two keys."""
        traits = (_key(accepted.idevid.spki_der), _key(accepted.iak.spki_der))
        for one in self.clashes(accepted):
            if one.serial == accepted.hardware_serial and (one.idevid_key, one.iak_key) == traits:
                return one
        return None

    def clashes(self, accepted: AcceptedManufacture) -> tuple[MadeDevice, ...]:
        """Return what stands for the same device name, or with one of the same keys.

        The endorsement key is one of them: a TPM has one identity, by whichever template.
        """
        traits: tuple[bytes | str, ...] = (
            accepted.device,
            _key(accepted.idevid.spki_der),
            _key(accepted.iak.spki_der),
            *filter(None, (accepted.ek_sha256,)),
        )
        numbers = {number for trait in traits for number in self._by_trait.get(trait, ())}
        return tuple(self.made[one] for one in sorted(numbers) if one not in self._replaced)

    def is_compromised(self, accepted: AcceptedManufacture) -> bool:
        """Say whether a certificate of one of its two keys was revoked as ``keyCompromise``."""
        keys = {_key(accepted.idevid.spki_der), _key(accepted.iak.spki_der)}
        numbers = {number for key in keys for number in self._by_trait.get(key, ())}
        for made in (self.made[number] for number in numbers):
            for key, one in zip((made.idevid_key, made.iak_key), made.certificates, strict=True):
                back = self.revoked.get(one.serial_number)
                if key in keys and back is not None and back.reason is Reason.KEY_COMPROMISE:
                    return True
        return False

    def is_revoked(self, made: MadeDevice) -> bool:
        """Say whether one of a device's two certificates was revoked."""
        return bool(self.revoked) and any(
            one.serial_number in self.revoked for one in made.certificates
        )

    def _apply_revoked(self, at: datetime, entry: Mapping[str, Any]) -> None:
        reason = Reason(entry["reason"])
        for text in entry["certificates"]:
            number = int(text, 16)
            earlier = self.revoked.get(number)
            since = at if earlier is None else earlier.at
            self.revoked[number] = TakenBack(at=since, reason=reason)

    def _apply_issued(self, made: MadeDevice) -> None:
        self.made[made.number] = made
        traits: tuple[bytes | str, ...] = (made.device, made.idevid_key, made.iak_key)
        for trait in (*traits, *filter(None, (made.ek_sha256,))):
            self._by_trait.setdefault(trait, []).append(made.number)
        for earlier in made.replaces:
            self._replaced[earlier] = made.number


def challenged_entry(
    accepted: AcceptedManufacture, request_sha256: bytes, secret: bytes, ends: datetime
) -> dict[str, object]:
    """Return the entry of a challenge: of the secret only its digest."""
    return {
        **_proof_entry(accepted, request_sha256),
        "proof": hashlib.sha256(secret).hexdigest(),
        "ends": ends.isoformat(),
    }


def answered_entry(accepted: AcceptedManufacture, request_sha256: bytes) -> dict[str, object]:
    """Return the entry of an answer, right (``proven``) or wrong (``failed``)."""
    return _proof_entry(accepted, request_sha256)


def issued_entry(
    accepted: AcceptedManufacture,
    made: ManufacturedIdentity,
    *,
    request_sha256: bytes,
    resident: bool,
    replaces: tuple[MadeDevice, ...] = (),
    reason: str = "",
) -> dict[str, object]:
    """Return the entry of two certificates."""
    return {
        "request": request_sha256.hex(),
        "serial": accepted.hardware_serial,
        "device": str(accepted.device),
        "model": accepted.model,
        "idevid_key": _key(accepted.idevid.spki_der).hex(),
        "iak_key": _key(accepted.iak.spki_der).hex(),
        "ek": accepted.ek_sha256.hex(),
        "ek_certificate": accepted.ek_certificate_sha256.hex(),
        "resident": resident,
        "idevid": _text(made.idevid),
        "iak": _text(made.iak),
        "replaces": [one.number for one in replaces],
        "reason": reason,
    }


def revoked_entry(serial: str, certificates: Iterable[int], reason: Reason) -> dict[str, object]:
    """Return the entry of a device's certificates that are revoked, by serial number."""
    return {
        "request": "",
        "serial": serial,
        "certificates": [f"{number:x}" for number in certificates],
        "reason": int(reason),
    }


def listed_entry(until: datetime, revoked: int) -> dict[str, object]:
    """Return the entry of a revocation list that ends at a moment, with so many certificates."""
    return {"request": "", "until": until.isoformat(), "revoked": revoked}


def _made(number: int, at: datetime, entry: Mapping[str, Any]) -> MadeDevice:
    return MadeDevice(
        number=number,
        at=at,
        serial=entry["serial"],
        device=DeviceId(entry["device"]),
        model=entry["model"],
        request_sha256=bytes.fromhex(entry["request"]),
        idevid_key=bytes.fromhex(entry["idevid_key"]),
        iak_key=bytes.fromhex(entry["iak_key"]),
        ek_sha256=bytes.fromhex(entry["ek"]),
        ek_certificate_sha256=bytes.fromhex(entry["ek_certificate"]),
        resident=entry["resident"],
        idevid=base64.b64decode(entry["idevid"]),
        iak=base64.b64decode(entry["iak"]),
        replaces=tuple(entry["replaces"]),
        reason=entry["reason"],
    )


def _proof_entry(accepted: AcceptedManufacture, request_sha256: bytes) -> dict[str, object]:
    name: KeyName = accepted.iak.name
    return {
        "request": request_sha256.hex(),
        "serial": accepted.hardware_serial,
        "ek": accepted.ek_sha256.hex(),
        "iak": name.hex(),
    }


def _key(spki_der: bytes) -> bytes:
    return hashlib.sha256(spki_der).digest()


def _text(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
