"""Credentials as the services and the store see them: records and Protocols.

A certificate is *recorded* in the same transaction as its entry in the issuance log, and handed
out only after that transaction is on disk: what nobody recorded, nobody holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from attestation.identity import DeviceId

SUPERSEDED: Final = 4
"""CRLReason ``superseded`` (RFC 5280, 5.3.1)."""


class CredentialKind(StrEnum):
    """Whose certificate it is. The store keeps these words."""

    DEVICE = "device"
    """An LDevID."""
    AGENT = "agent"
    """An AI agent's below a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """One certificate that we issued.

    Attributes:
        sha256: SHA-256 of its DER.
        device: The device it was issued to, or whose agent it was issued to.
        serial: Its serial number; no two certificates share one.
        der: The certificate.
        not_before: When it begins (aware).
        not_after: When it ends (aware).
        kind: A device's or an agent's.
        agent: The agent's name; empty for a device.
        holder: The SPIFFE id in it.
        profile: The certificate profile it was made by.
        issuer_sha256: SHA-256 of the issuing CA certificate's DER.
        spki_sha256: SHA-256 of its SubjectPublicKeyInfo: one key belongs to one holder.
    """

    sha256: bytes
    device: DeviceId
    serial: int
    der: bytes
    not_before: datetime
    not_after: datetime
    kind: CredentialKind = CredentialKind.DEVICE
    agent: str = ""
    holder: str = ""
    profile: str = ""
    issuer_sha256: bytes = b""
    spki_sha256: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCertificate:
    """A certificate as the store holds it.

    Attributes:
        certificate: What was issued.
        number: Of its entry in the issuance log; also the bit of its tokens in the status lists.
        ends_at: From when on it is to be revoked as superseded (key rotation's overlap); None if
            nothing is planned.
        revoked_at: When it was revoked; None if it was not.
        revoked_code: The reason's number (RFC 5280, 5.3.1); 0 if it was not.
        revoked_reason: The reason for people; empty if it was not.
    """

    certificate: IssuedCertificate
    number: int
    ends_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_code: int = 0
    revoked_reason: str = ""


class RevokedSerial(NamedTuple):
    """One row of a revocation list: serial number, moment, reason's number (RFC 5280, 5.3.1)."""

    serial: int
    at: datetime
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityClaim:
    """Something that only one device may be: an EK, an IDevID, an instance of a cloud.

    Attributes:
        kind: ``ek``, ``idevid``, ``idevid-key``, ``iak``, ``aws-instance``, ``azure-resource``.
        value: SHA-256 of what is claimed.
    """

    kind: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """One AI agent below a device.

    Attributes:
        device: The device it runs on.
        name: Unique on that device; written like a device id.
        agent_class: The class of the enrolment policy.
        holder: Its SPIFFE id.
        owner: Who is bound to it; empty if the class asks for none.
        capabilities: Sorted, without repeats.
        locator: Where it is reached; empty if it did not say.
        validation_methods: How a registry may have it prove itself; empty for any.
        certificate_sha256: Its newest certificate.
        certificate_not_after: When that ends.
        enrolled_at: When it was (last) enrolled.
        decommission_at: From when on it is to be revoked; None if that is not planned.
        decommission_told: Whether that is an operator's word; its class says nothing to it then.
        revoked_reason: Why it was revoked; empty if it was not.
        version: Grows with every change of the row; 0 for a new one.
    """

    device: DeviceId
    name: str
    agent_class: str
    holder: str
    owner: str
    capabilities: tuple[str, ...]
    locator: str
    validation_methods: tuple[str, ...]
    certificate_sha256: bytes
    certificate_not_after: datetime
    enrolled_at: datetime
    decommission_at: datetime | None = None
    decommission_told: bool = False
    revoked_reason: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry of the issuance log (:mod:`verifier.issuance.log`).

    Attributes:
        number: 1, 2, 3 … without gaps.
        at: When (aware).
        kind: ``issued``, ``revoked``, ``authority``, …
        entry: What happened, as canonical JSON text.
        previous: The digest of the entry before; 32 zero bytes for the first.
        sha256: The digest of this entry: over all the above.
    """

    number: int
    at: datetime
    kind: str
    entry: str
    previous: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something an operator must look at.

    Attributes:
        number: Order of raising.
        at: When it was raised first (aware); one with the same code and subject is not repeated
            while nobody has seen it.
        code: A stable code.
        subject: What it is about: a device's id, a certificate's serial …
        reason: One sentence, and what to do.
        seen_at: When an operator took note of it; None if nobody did.
    """

    number: int
    at: datetime
    code: str
    subject: str
    reason: str
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedList:
    """The newest revocation list of one issuer.

    Attributes:
        issuer_sha256: SHA-256 of the CA certificate's DER.
        number: cRLNumber; grows with every list, over restarts and replicas.
        der: The list.
        this_update: When it was made (aware).
        next_update: Until when it may be relied on.
        revision: :meth:`CredentialReader.revocation_revision` that it covers.
    """

    issuer_sha256: bytes
    number: int
    der: bytes
    this_update: datetime
    next_update: datetime
    revision: int


class CredentialReader(Protocol):
    """What may be asked about credentials. Raises Unavailable when the store cannot answer."""

    def certificate(self, sha256: bytes) -> StoredCertificate | None:
        """Return one certificate by the SHA-256 of its DER."""
        ...

    def certificates_by_serial(self, serials: Collection[int]) -> Mapping[int, StoredCertificate]:
        """Return those of several serial numbers that are certificates, by one question."""
        ...

    def certificate_by_serial(self, serial: int) -> StoredCertificate | None:
        """Return one certificate by its serial number."""
        ...

    def certificates(
        self, *, device: DeviceId | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[StoredCertificate]:
        """Return certificates in order of issuance, from the first after log entry ``after``."""
        ...

    def live_certificates(
        self, device: DeviceId, agent: str, at: datetime
    ) -> Sequence[StoredCertificate]:
        """Return an agent's certificates that are not revoked and not ended, newest first."""
        ...

    def key_holder(self, spki_sha256: bytes) -> str | None:
        """Return the SPIFFE id that a key was certified for; None if it never was."""
        ...

    def revoked(self, issuer_sha256: bytes, at: datetime) -> Sequence[RevokedSerial]:
        """Return all revoked certificates of one issuer that have not ended at ``at``."""
        ...

    def revoked_numbers(self, first: int, last: int) -> Sequence[int]:
        """Return which of the certificates numbered ``first`` to ``last`` are revoked."""
        ...

    def revocation_revision(self) -> int:
        """Return a number that changes whenever a certificate is revoked."""
        ...

    def due(self, at: datetime, limit: int) -> Sequence[StoredCertificate]:
        """Return certificates, not revoked, whose ``ends_at`` has come."""
        ...

    def published_list(self, issuer_sha256: bytes) -> PublishedList | None:
        """Return an issuer's newest revocation list."""
        ...

    def agent(self, device: DeviceId, name: str) -> AgentRecord | None:
        """Return one agent."""
        ...

    def agents(self, device: DeviceId) -> Sequence[AgentRecord]:
        """Return the agents of a device by name."""
        ...

    def agents_in_force(self, device: DeviceId, at: datetime) -> Sequence[AgentRecord]:
        """Return the agents of a device by name whose newest certificate is in force.

        Args:
            device: The device.
            at: When it must be in its time; a revoked one is never in force.
        """
        ...

    def agents_due(self, at: datetime, limit: int) -> Sequence[AgentRecord]:
        """Return agents, not revoked, whose ``decommission_at`` has come."""
        ...

    def log_entries(self, *, after: int = 0, limit: int = 1000) -> Sequence[LogEntry]:
        """Return entries of the issuance log in order, from the first after ``after``."""
        ...

    def log_head(self) -> LogEntry | None:
        """Return the newest entry of the issuance log."""
        ...

    def alarms(self, *, unseen: bool = True, limit: int = 100) -> Sequence[Alarm]:
        """Return alarms, newest first; with ``unseen`` those that nobody took note of."""
        ...


class CredentialWork(Protocol):
    """Writes about credentials in one transaction; part of :class:`verifier.ports.UnitOfWork`."""

    def hold_device(self, device: DeviceId, version: int) -> None:
        """Keep a device's row as it is until the transaction ends.

        Raises:
            Conflict: If it changed since ``version`` was read: it was judged anew, or revoked.
        """
        ...

    def issue(
        self, certificate: IssuedCertificate, entry: Mapping[str, object], at: datetime
    ) -> int:
        """Record a certificate and its entry (kind ``issued``) in the issuance log.

        Returns:
            The entry's number.

        Raises:
            Conflict: ``serial-taken``, or ``key-already-certified`` if the key was certified for
                another holder.
        """
        ...

    def supersede(self, certificate: IssuedCertificate, ends_at: datetime, at: datetime) -> None:
        """Plan the end of every other certificate of the same device and agent.

        Args:
            certificate: The new one.
            ends_at: When the others are to be revoked; one planned to end earlier stays so.
            at: Now; what ends by then is revoked at once.
        """
        ...

    def claim(self, device: DeviceId, claims: Sequence[IdentityClaim]) -> None:
        """Note what a device is; what it claimed before stays its own.

        Raises:
            Conflict: ``identity-taken`` if another device is one of these already.
        """
        ...

    def revoke_certificate(self, sha256: bytes, code: int, reason: str, at: datetime) -> bool:
        """Revoke one certificate and log it; False if there is none or it was revoked before.

        One that was revoked for less is then revoked as ``keyCompromise``, and never the other way
        round (:func:`verifier.issuance.reasons.may_take_the_place`).
        """
        ...

    def revoke_certificates(
        self,
        device: DeviceId,
        kinds: Collection[CredentialKind],
        code: int,
        reason: str,
        at: datetime,
        *,
        agent: str = "",
    ) -> int:
        """Revoke what is in force of a device, or of one of its agents, and log it.

        Their holders stay enrolled. As ``keyCompromise`` also what was revoked for less. Returns
        how many were revoked.
        """
        ...

    def put_agent(self, record: AgentRecord) -> None:
        """Write a new agent (version 0) or a new enrolment of the same one.

        Raises:
            Conflict: If the row changed since ``record.version`` was read, or exists already.
        """
        ...

    def revoke_agent(
        self, device: DeviceId, name: str, code: int, reason: str, at: datetime
    ) -> bool:
        """Revoke an agent and its certificates and log it; False if there is none."""
        ...

    def append_log(self, kind: str, entry: Mapping[str, object], at: datetime) -> LogEntry:
        """Append an entry to the issuance log."""
        ...

    def put_list(self, published: PublishedList) -> bool:
        """Keep an issuer's newest revocation list; False if a newer one is kept already."""
        ...

    def spend_activation(self, sha256: bytes, ends_at: datetime) -> bool:
        """Note that an activation, or what else has one use, is tried; False if it was before.

        Args:
            sha256: Of the activation.
            ends_at: When it ends; after that it need not be remembered.
        """
        ...

    def raise_alarm(self, code: str, subject: str, reason: str, at: datetime) -> None:
        """Raise an alarm; one of the same code and subject that nobody has seen stays as it is."""
        ...

    def see_alarm(self, number: int, at: datetime) -> bool:
        """Take note of an alarm; False if there is none of that number."""
        ...
