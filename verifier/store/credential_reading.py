"""What the store answers about credentials: the ``CredentialReader`` port."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection, and_, exists, func, select

from attestation.identity import DeviceId
from verifier.ports.credentials import (
    AgentRecord,
    Alarm,
    CredentialKind,
    LogEntry,
    PublishedList,
    RevokedSerial,
    StoredCertificate,
)
from verifier.store import credential_rows as rows
from verifier.store.rows import to_us
from verifier.store.tables import (
    agents,
    alarms,
    certificates,
    devices,
    issuance_log,
    published_lists,
    results,
    revisions,
)

REVOCATION_REVISION: Final = "revocation"
"""The subject under which revocations are counted."""


class _Opening(Protocol):
    def _open(self) -> AbstractContextManager[Connection]: ...


class CredentialReading:
    """Every question about credentials, each in its own short transaction."""

    def certificate(self: _Opening, sha256: bytes) -> StoredCertificate | None:
        """Return one certificate by the SHA-256 of its DER."""
        query = select(certificates).where(certificates.c.sha256 == sha256)
        with self._open() as connection:
            row = connection.execute(query).first()
        return rows.certificate_from(row) if row else None

    def certificate_by_serial(self: _Opening, serial: int) -> StoredCertificate | None:
        """Return one certificate by its serial number."""
        query = select(certificates).where(certificates.c.serial == rows.serial_text(serial))
        with self._open() as connection:
            row = connection.execute(query).first()
        return rows.certificate_from(row) if row else None

    def certificates_by_serial(
        self: _Opening, serials: Collection[int]
    ) -> Mapping[int, StoredCertificate]:
        """Return those of several serial numbers that are certificates, by one question."""
        texts = [rows.serial_text(one) for one in serials]
        query = select(certificates).where(certificates.c.serial.in_(texts))
        with self._open() as connection:
            found = [rows.certificate_from(row) for row in connection.execute(query)]
        return {one.certificate.serial: one for one in found}

    def certificates(
        self: _Opening, *, device: DeviceId | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[StoredCertificate]:
        """Return certificates in order of issuance, from the first after log entry ``after``."""
        query = select(certificates).where(certificates.c.number > after)
        if device is not None:
            query = query.where(certificates.c.device_id == device)
        with self._open() as connection:
            found = connection.execute(query.order_by(certificates.c.number).limit(limit))
            return [rows.certificate_from(row) for row in found]

    def live_certificates(
        self: _Opening, device: DeviceId, agent: str, at: datetime
    ) -> Sequence[StoredCertificate]:
        """Return an agent's certificates that are not revoked and not ended, newest first."""
        query = select(certificates).where(
            certificates.c.device_id == device,
            certificates.c.kind == CredentialKind.AGENT.value,
            certificates.c.agent == agent,
            certificates.c.revoked_us.is_(None),
            certificates.c.not_after_us > to_us(at),
        )
        with self._open() as connection:
            found = connection.execute(query.order_by(certificates.c.number.desc()))
            return [rows.certificate_from(row) for row in found]

    def key_holder(self: _Opening, spki_sha256: bytes) -> str | None:
        """Return the SPIFFE id that a key was certified for; None if it never was."""
        query = select(certificates.c.holder).where(certificates.c.spki_sha256 == spki_sha256)
        with self._open() as connection:
            return connection.execute(query.limit(1)).scalar()

    def revoked(self: _Opening, issuer_sha256: bytes, at: datetime) -> Sequence[RevokedSerial]:
        """Return all revoked certificates of one issuer that have not ended at ``at``."""
        query = select(
            certificates.c.serial, certificates.c.revoked_us, certificates.c.revoked_code
        ).where(
            certificates.c.revoked_us.is_not(None),
            certificates.c.issuer_sha256 == issuer_sha256,
            certificates.c.not_after_us > to_us(at),
        )
        with self._open() as connection:
            found = connection.execute(query.order_by(certificates.c.number))
            return [rows.revoked_from(*row) for row in found]

    def revoked_numbers(self: _Opening, first: int, last: int) -> Sequence[int]:
        """Return which of the certificates numbered ``first`` to ``last`` are revoked."""
        query = select(certificates.c.number).where(
            certificates.c.number.between(first, last), certificates.c.revoked_us.is_not(None)
        )
        with self._open() as connection:
            return list(connection.execute(query.order_by(certificates.c.number)).scalars())

    def revocation_revision(self: _Opening) -> int:
        """Return a number that changes whenever a certificate is revoked."""
        query = select(revisions.c.number).where(revisions.c.subject == REVOCATION_REVISION)
        with self._open() as connection:
            return connection.execute(query).scalar() or 0

    def due(self: _Opening, at: datetime, limit: int) -> Sequence[StoredCertificate]:
        """Return certificates, not revoked, whose ``ends_at`` has come."""
        query = select(certificates).where(
            certificates.c.ends_us <= to_us(at), certificates.c.revoked_us.is_(None)
        )
        with self._open() as connection:
            found = connection.execute(query.order_by(certificates.c.ends_us).limit(limit))
            return [rows.certificate_from(row) for row in found]

    def stale_devices(
        self: _Opening, ended_by: datetime, *, after: str, limit: int, untold: str = ""
    ) -> Sequence[DeviceId]:
        """Return devices with a certificate in force whose newest result ended by a moment.

        With ``untold`` without those of whom an alarm of that code was raised since it ended.
        """
        newest = and_(results.c.device_id == devices.c.device_id, results.c.seq == devices.c.seq)
        in_force = exists().where(
            certificates.c.device_id == devices.c.device_id, certificates.c.revoked_us.is_(None)
        )
        ended = func.coalesce(results.c.expires_us, devices.c.enrolled_us)
        query = (
            select(devices.c.device_id)
            .outerjoin(results, newest)
            .where(devices.c.device_id > after, ended <= to_us(ended_by), in_force)
            .order_by(devices.c.device_id)
            .limit(limit)
        )
        if untold:
            told = exists().where(
                alarms.c.code == untold,
                alarms.c.subject == devices.c.device_id,
                alarms.c.at_us > ended,
            )
            query = query.where(~told)
        with self._open() as connection:
            return [DeviceId(name) for name in connection.execute(query).scalars()]

    def published_list(self: _Opening, issuer_sha256: bytes) -> PublishedList | None:
        """Return an issuer's newest revocation list."""
        query = select(published_lists).where(published_lists.c.issuer_sha256 == issuer_sha256)
        with self._open() as connection:
            row = connection.execute(query).first()
        return rows.list_from(row) if row else None

    def agent(self: _Opening, device: DeviceId, name: str) -> AgentRecord | None:
        """Return one agent."""
        query = select(agents).where(agents.c.device_id == device, agents.c.name == name)
        with self._open() as connection:
            row = connection.execute(query).first()
        return rows.agent_from(row) if row else None

    def agents(self: _Opening, device: DeviceId) -> Sequence[AgentRecord]:
        """Return the agents of a device by name."""
        query = select(agents).where(agents.c.device_id == device).order_by(agents.c.name)
        with self._open() as connection:
            return [rows.agent_from(row) for row in connection.execute(query)]

    def agents_in_force(self: _Opening, device: DeviceId, at: datetime) -> Sequence[AgentRecord]:
        """Return the agents of a device by name whose certificate is in force.

        That of a revoked agent was revoked with it.
        """
        at_us = to_us(at)
        query = (
            select(agents)
            .join(certificates, certificates.c.sha256 == agents.c.certificate_sha256)
            .where(
                agents.c.device_id == device,
                certificates.c.revoked_us.is_(None),
                certificates.c.not_before_us <= at_us,
                certificates.c.not_after_us > at_us,
            )
        )
        with self._open() as connection:
            found = connection.execute(query.order_by(agents.c.name))
            return [rows.agent_from(row) for row in found]

    def agents_due(self: _Opening, at: datetime, limit: int) -> Sequence[AgentRecord]:
        """Return agents, not revoked, whose ``decommission_at`` has come."""
        query = select(agents).where(
            agents.c.decommission_us <= to_us(at), agents.c.revoked_us.is_(None)
        )
        with self._open() as connection:
            found = connection.execute(query.order_by(agents.c.decommission_us).limit(limit))
            return [rows.agent_from(row) for row in found]

    def log_entries(self: _Opening, *, after: int = 0, limit: int = 1000) -> Sequence[LogEntry]:
        """Return entries of the issuance log in order, from the first after ``after``."""
        query = select(issuance_log).where(issuance_log.c.number > after)
        with self._open() as connection:
            found = connection.execute(query.order_by(issuance_log.c.number).limit(limit))
            return [rows.entry_from(row) for row in found]

    def log_head(self: _Opening) -> LogEntry | None:
        """Return the newest entry of the issuance log."""
        query = select(issuance_log).order_by(issuance_log.c.number.desc()).limit(1)
        with self._open() as connection:
            row = connection.execute(query).first()
        return rows.entry_from(row) if row else None

    def alarms(self: _Opening, *, unseen: bool = True, limit: int = 100) -> Sequence[Alarm]:
        """Return alarms, newest first; with ``unseen`` those that nobody took note of."""
        query = select(alarms).order_by(alarms.c.number.desc()).limit(limit)
        if unseen:
            query = query.where(alarms.c.seen_us.is_(None))
        with self._open() as connection:
            return [rows.alarm_from(row) for row in connection.execute(query)]
