"""What the store answers: the ``DeviceReader`` port over an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, and_, bindparam, func, select

from attestation.errors import InputError
from attestation.identity import DeviceId
from attestation.logs.ima.progress import RuntimeProgress
from verifier.ports import (
    AccessToken,
    DeviceRecord,
    DocumentKind,
    ReferenceDocument,
    StoredReferenceSets,
    StoredResult,
)
from verifier.ports.outbox import OutboxRow
from verifier.reference_values.model import ReferenceSet
from verifier.store import rows
from verifier.store.credential_reading import CredentialReading
from verifier.store.engine import store_errors
from verifier.store.progress_rows import decode_progress
from verifier.store.reference_rows import document_from, reference_set_from
from verifier.store.tables import (
    certificates,
    devices,
    evidence,
    firmware_logs,
    outbox,
    reference_documents,
    reference_sets,
    results,
    revisions,
    tokens,
)

REFERENCE_REVISION = "reference-sets"
"""The subject under which changes of reference sets and documents are counted."""

_DEVICE = select(devices).where(devices.c.device_id == bindparam("b_device"))


class Reading(CredentialReading):
    """Every question, each in its own short transaction.

    Args:
        engine: From :func:`verifier.store.engine.make_engine`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        with store_errors(), self._engine.connect() as connection:
            yield connection

    def device(self, device: DeviceId) -> DeviceRecord | None:
        """Return one device, as it is now."""
        with self._open() as connection:
            row = connection.execute(_DEVICE, {"b_device": device}).first()
        return rows.device_from(row) if row else None

    def device_by_certificate(self, sha256: bytes) -> DeviceId | None:
        """Return whom a certificate of ours was issued to, be it current or not."""
        query = select(certificates.c.device_id).where(certificates.c.sha256 == sha256)
        with self._open() as connection:
            name = connection.execute(query).scalar()
        return DeviceId(name) if name is not None else None

    def devices(self, *, after: str = "", limit: int = 100) -> Sequence[DeviceRecord]:
        """Return devices by id, from the first after ``after``."""
        query = (
            select(devices)
            .where(devices.c.device_id > after)
            .order_by(devices.c.device_id)
            .limit(limit)
        )
        with self._open() as connection:
            return [rows.device_from(row) for row in connection.execute(query)]

    def devices_due(self, at: datetime, limit: int) -> Sequence[DeviceId]:
        """Return devices, not revoked, whose ``decommission_at`` has come."""
        query = (
            select(devices.c.device_id)
            .where(devices.c.decommission_us <= rows.to_us(at), devices.c.revoked_us.is_(None))
            .order_by(devices.c.decommission_us)
            .limit(limit)
        )
        with self._open() as connection:
            return [DeviceId(name) for name in connection.execute(query).scalars()]

    def newest_result(self, device: DeviceId) -> StoredResult | None:
        """Return the newest result of a device."""
        found = self.history(device, limit=1)
        return found[0] if found else None

    def newest_results(self, chosen: Sequence[DeviceId]) -> Mapping[DeviceId, StoredResult]:
        """Return the newest result of each of several devices."""
        query = (
            select(results)
            .join(
                devices,
                and_(devices.c.device_id == results.c.device_id, devices.c.seq == results.c.seq),
            )
            .where(devices.c.device_id.in_(chosen))
        )
        with self._open() as connection:
            found = [rows.result_from(row) for row in connection.execute(query)]
        return {result.device: result for result in found}

    def history(
        self, device: DeviceId, *, before: int = 0, limit: int = 100
    ) -> Sequence[StoredResult]:
        """Return results newest first, from the first with a ``seq`` below ``before`` (0: all)."""
        query = select(results).where(results.c.device_id == device)
        if before:
            query = query.where(results.c.seq < before)
        with self._open() as connection:
            found = connection.execute(query.order_by(results.c.seq.desc()).limit(limit))
            return [rows.result_from(row) for row in found]

    def last_evidence(self, device: DeviceId) -> bytes | None:
        """Return the last evidence message of a device."""
        query = select(evidence.c.message).where(evidence.c.device_id == device)
        with self._open() as connection:
            message = connection.execute(query).scalar()
        return bytes(message) if message is not None else None

    def progress_before(self, device: DeviceId) -> RuntimeProgress | None:
        """Return how far the IMA list was proven when the last evidence came."""
        query = select(evidence.c.progress).where(evidence.c.device_id == device)
        with self._open() as connection:
            return decode_progress(connection.execute(query).scalar())

    def firmware_log(self, sha256: bytes) -> bytes | None:
        """Return a firmware log that was seen before."""
        query = select(firmware_logs.c.content).where(firmware_logs.c.sha256 == sha256)
        with self._open() as connection:
            content = connection.execute(query).scalar()
        return bytes(content) if content is not None else None

    def reference_sets(self) -> StoredReferenceSets:
        """Return all reference sets by name and newest first, and which could not be read."""
        query = select(reference_sets).order_by(
            reference_sets.c.name, reference_sets.c.version.desc()
        )
        sets: list[ReferenceSet] = []
        unreadable: list[tuple[str, str]] = []
        with self._open() as connection:
            for row in connection.execute(query):
                try:
                    sets.append(reference_set_from(row.document, row.name, row.version))
                except InputError as error:
                    unreadable.append((f"{row.name}/{row.version}", error.reason))
        return StoredReferenceSets(sets=tuple(sets), unreadable=tuple(unreadable))

    def documents(self, kind: DocumentKind) -> Sequence[ReferenceDocument]:
        """Return all reference documents of one kind by name."""
        query = select(reference_documents).where(reference_documents.c.kind == kind.value)
        with self._open() as connection:
            found = connection.execute(query.order_by(reference_documents.c.name))
            return [document_from(row) for row in found]

    def reference_revision(self) -> int:
        """Return a number that changes whenever a reference set or document changes."""
        query = select(revisions.c.number).where(revisions.c.subject == REFERENCE_REVISION)
        with self._open() as connection:
            return connection.execute(query).scalar() or 0

    def token(self, sha256: bytes) -> AccessToken | None:
        """Return the token whose secret has this digest."""
        with self._open() as connection:
            row = connection.execute(select(tokens).where(tokens.c.sha256 == sha256)).first()
        return rows.token_from(row) if row else None

    def tokens(self) -> Sequence[AccessToken]:
        """Return all tokens by name."""
        with self._open() as connection:
            found = connection.execute(select(tokens).order_by(tokens.c.name))
            return [rows.token_from(row) for row in found]

    def waiting(self, limit: int) -> Sequence[OutboxRow]:
        """Return the oldest undelivered rows in order."""
        query = (
            select(outbox.c.number, devices.c.revoked_us, devices.c.revoked_reason, results)
            .join(
                results,
                and_(results.c.device_id == outbox.c.device_id, results.c.seq == outbox.c.seq),
            )
            .join(devices, devices.c.device_id == outbox.c.device_id)
            .order_by(outbox.c.number)
            .limit(limit)
        )
        with self._open() as connection:
            return [
                OutboxRow(
                    number=row.number,
                    result=rows.result_from(row),
                    revoked_reason=row.revoked_reason if row.revoked_us is not None else None,
                )
                for row in connection.execute(query)
            ]

    def waiting_count(self) -> int:
        """Count undelivered rows."""
        with self._open() as connection:
            return connection.execute(select(func.count()).select_from(outbox)).scalar_one()
