"""What the services need from the world, and the values that cross: Protocols and records.

Adapters (``store``, ``keys``, ``feeds``) implement these; services know nothing else of them.
Times in records are aware datetimes; the store keeps microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from attestation.identity import DeviceId
from attestation.logs.ima.progress import RuntimeProgress
from verifier.appraisal.enrolment import Enrolment, LastSeen
from verifier.issuance.revocation_policy import Consequence
from verifier.ports.credentials import (
    CredentialReader,
    CredentialWork,
    IdentityClaim,
    IssuedCertificate,
)
from verifier.reference_values.model import ReferenceSet


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """One enrolled device as the store holds it.

    Attributes:
        enrolment: What appraisal needs of it.
        hardware_serial: The manufacturer's serial number (IDevID subject).
        idevid_sha256: SHA-256 of the IDevID certificate it enrolled with.
        certificate_sha256: Fingerprint of its current LDevID certificate.
        certificate_not_after: When that certificate ends.
        enrolled_at: When it was (last) enrolled.
        revoked_reason: Why it was revoked; empty if it was not.
        seq: Number of its newest result; 0 before the first.
        version: Grows with every change of the row; a write names the version it was based on.
        withdrawn: Whether the certificate that it was asked for by is revoked for the device's
            state: it may attest, so that its recovery is seen, and nothing else.
        decommission_at: From when on it is to be revoked; None if that is not planned.
        decommission_told: Whether that is an operator's word; its class says nothing to it then.
    """

    enrolment: Enrolment
    hardware_serial: str
    idevid_sha256: bytes
    certificate_sha256: bytes
    certificate_not_after: datetime
    enrolled_at: datetime
    revoked_reason: str = ""
    seq: int = 0
    version: int = 1
    withdrawn: bool = False
    decommission_at: datetime | None = None
    decommission_told: bool = False

    @property
    def device(self) -> DeviceId:
        """The device's id."""
        return self.enrolment.device


class DocumentKind(StrEnum):
    """Kinds of reference documents besides reference sets. The store keeps these words."""

    RUNTIME_POLICY = "runtime-policy"
    AIBOM = "aibom"
    PROVIDER = "provider"
    CORIM_SIGNER = "corim-signer"
    OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDocument:
    """A reference document as it was put in, not yet compiled.

    Attributes:
        kind: What it is.
        name: Unique within its kind; 1 to 128 characters.
        version: Counts up with every change, from 1.
        created_at: When this version was put in (aware).
        document: Its exact text.
    """

    kind: DocumentKind
    name: str
    version: int
    created_at: datetime
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReferenceSets:
    """All reference sets of the store.

    Attributes:
        sets: By name, newest version first.
        unreadable: (``name/version``, reason) of those whose text is no reference set.
    """

    sets: tuple[ReferenceSet, ...]
    unreadable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """One attestation result with the decision that was made of it.

    Attributes:
        device: Whose.
        seq: 1, 2, 3 … per device, without gaps.
        at: The moment of judgement.
        expires_at: When it stops being believed.
        status: AR4SI tier number (0, 2, 32, 96).
        vector: Trustworthiness claims.
        reasons: ``code: reason`` lines, worst first.
        steps: (number, name, verdict, detail) of each appraisal step.
        allow: The decision.
        decision_reasons: Why the decision is what it is.
        policy_id: The appraisal policy.
        reference_set: The reference set that matched; empty if none did.
        evidence_sha256: SHA-256 of the evidence message.
        ear: The signed result (JWT).
    """

    device: DeviceId
    seq: int
    at: datetime
    expires_at: datetime
    status: int
    vector: Mapping[str, int]
    reasons: tuple[str, ...]
    steps: tuple[tuple[int, str, str, str], ...]
    allow: bool
    decision_reasons: tuple[str, ...]
    policy_id: str
    reference_set: str
    evidence_sha256: bytes
    ear: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Everything that one judged evidence changes, in one transaction or not at all.

    Attributes:
        result: The result and decision; its ``seq`` is the device's ``seq`` + 1.
        based_on: The row version the judgement was made from; another one refuses the write.
        last_seen: The new clock mark; None keeps the old one (nothing fresh was proven).
        evidence: The message, kept as the device's last evidence.
        firmware_log: (SHA-256, bytes) of a log to remember; None keeps nothing.
        log_sha256: SHA-256 of the firmware log that the evidence names, sent whole or not.
        progress: How far the IMA list is proven now; None keeps what was known (nothing new was
            proven).
        progress_before: How far it was proven before: what the evidence goes on from.
        consequence: What the revocation policy says of this result; None for nothing.
    """

    result: StoredResult
    based_on: int
    last_seen: LastSeen | None
    evidence: bytes
    firmware_log: tuple[bytes, bytes] | None = None
    log_sha256: bytes | None = None
    progress: RuntimeProgress | None = None
    progress_before: RuntimeProgress | None = None
    consequence: Consequence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """An operator's or reader's token; the secret itself is never stored.

    Attributes:
        name: Its unique name.
        role: ``reader`` or ``operator``.
        sha256: SHA-256 of the secret.
        created_at: When it was made.
    """

    name: str
    role: str
    sha256: bytes
    created_at: datetime


class Clock(Protocol):
    """The only source of now."""

    def now(self) -> datetime:
        """Return the present moment, aware, UTC."""
        ...


class Entropy(Protocol):
    """The only source of randomness."""

    def take(self, size: int) -> bytes:
        """Return ``size`` fresh random bytes."""
        ...


class ResultSigner(Protocol):
    """Signs results."""

    def sign_claims(self, claims: Mapping[str, object]) -> str:
        """Return ``claims`` as a signed JWT (ES256)."""
        ...


class DeviceReader(Protocol):
    """What may be asked about devices. Raises Unavailable when the store cannot answer."""

    def device(self, device: DeviceId) -> DeviceRecord | None:
        """Return one device, as it is now."""
        ...

    def device_by_certificate(self, sha256: bytes) -> DeviceId | None:
        """Return whom a certificate of ours was issued to, be it current or not."""
        ...

    def devices(self, *, after: str = "", limit: int = 100) -> Sequence[DeviceRecord]:
        """Return devices by id, from the first after ``after``."""
        ...

    def newest_result(self, device: DeviceId) -> StoredResult | None:
        """Return the newest result of a device."""
        ...

    def newest_results(self, devices: Sequence[DeviceId]) -> Mapping[DeviceId, StoredResult]:
        """Return the newest result of each of several devices."""
        ...

    def history(
        self, device: DeviceId, *, before: int = 0, limit: int = 100
    ) -> Sequence[StoredResult]:
        """Return results newest first, from the first with a ``seq`` below ``before`` (0: all)."""
        ...

    def stale_devices(
        self, ended_by: datetime, *, after: str, limit: int, untold: str = ""
    ) -> Sequence[DeviceId]:
        """Return devices with a certificate in force whose newest result ended by a moment.

        One without any result counts from its enrolment. In order of id, from the first after
        ``after``; with ``untold`` without those of whom an alarm of that code was raised since.
        """
        ...

    def devices_due(self, at: datetime, limit: int) -> Sequence[DeviceId]:
        """Return devices, not revoked, whose ``decommission_at`` has come."""
        ...

    def last_evidence(self, device: DeviceId) -> bytes | None:
        """Return the last evidence message of a device."""
        ...

    def progress_before(self, device: DeviceId) -> RuntimeProgress | None:
        """Return how far a device's IMA list was proven when its last evidence came.

        An evidence holds only what was new: it can be judged again only from there.
        """
        ...

    def firmware_log(self, sha256: bytes) -> bytes | None:
        """Return a firmware log that was seen before."""
        ...

    def reference_sets(self) -> StoredReferenceSets:
        """Return all reference sets, and which could not be read."""
        ...

    def documents(self, kind: DocumentKind) -> Sequence[ReferenceDocument]:
        """Return all reference documents of one kind by name."""
        ...

    def reference_revision(self) -> int:
        """Return a number that changes whenever a reference set or document changes."""
        ...

    def token(self, sha256: bytes) -> AccessToken | None:
        """Return the token whose secret has this digest."""
        ...


class UnitOfWork(CredentialWork, Protocol):
    """Writes of one transaction; all or nothing."""

    def enrol(self, record: DeviceRecord) -> None:
        """Write a new device, or a new enrolment of the same one (the caller has checked that).

        Raises:
            Conflict: If the row changed since ``record.version`` was read.
        """
        ...

    def record(self, judgements: Sequence[Judgement]) -> Sequence[bool]:
        """Write judgements; False where the device's row had moved on."""
        ...

    def revoke(self, device: DeviceId, reason: str, at: datetime, code: int = 0) -> bool:
        """Revoke a device, its agents and all certificates; False if there is no such device.

        ``code`` is the reason's number in revocation lists (RFC 5280, 5.3.1).
        """
        ...

    def carry_out(
        self, consequence: Consequence, device: DeviceId, at: datetime, *, agent: str = ""
    ) -> int:
        """Do to a device or agent what the revocation policy says; returns certificates revoked.

        An alarm beside a revocation is raised only if something was revoked.
        """
        ...

    def decommission(
        self, device: DeviceId, ends: datetime | None, at: datetime, *, agent: str = ""
    ) -> bool:
        """Plan by an operator's word when it ends; False if there is none or it is revoked."""
        ...

    def put_reference_set(self, chosen: ReferenceSet) -> None:
        """Add or replace the reference set of that name and version."""
        ...

    def remove_reference_set(self, name: str, *, version: int = 0) -> bool:
        """Remove a version of a reference set (0: all); False if there was none."""
        ...

    def put_document(self, document: ReferenceDocument) -> None:
        """Add or replace the reference document of that kind and name."""
        ...

    def remove_document(self, kind: DocumentKind, name: str) -> bool:
        """Remove a reference document; False if there was none."""
        ...

    def put_token(self, token: AccessToken) -> None:
        """Add a token; raises Conflict if the name is taken."""
        ...

    def remove_token(self, name: str) -> bool:
        """Remove a token; False if there was none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIssuance:
    """A device that was accepted, and everything that is to be written with it.

    Attributes:
        record: The device; ``version`` 0 for a new one, else the version it was read with.
        claims: What it is and no other device may be.
        certificate: What it is issued.
        entry: That certificate's entry in the issuance log.
        older_end: When its other certificates end; at or before ``at`` they are revoked at once.
        judgement: The result of its evidence, based on ``record.version + 1``; None without.
        at: Now (aware).
    """

    record: DeviceRecord
    claims: tuple[IdentityClaim, ...]
    certificate: IssuedCertificate
    entry: Mapping[str, object]
    older_end: datetime
    judgement: Judgement | None
    at: datetime


class Store(DeviceReader, CredentialReader, Protocol):
    """The store whole."""

    def work(self) -> AbstractContextManager[UnitOfWork]:
        """Open a transaction: committed at the end, rolled back on an exception."""
        ...

    def record(self, judgements: Sequence[Judgement]) -> Sequence[bool]:
        """Write several judgements in one transaction.

        Returns:
            For each whether it was written; False where the device's row had moved on.
        """
        ...

    def tokens(self) -> Sequence[AccessToken]:
        """Return all tokens by name."""
        ...
