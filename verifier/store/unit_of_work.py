"""Writes of one transaction: the ``UnitOfWork`` port, and the group of judgements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Delete, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from verifier.errors import Conflict
from verifier.issuance.log import DECOMMISSION
from verifier.issuance.revocation_policy import Action, Consequence, Holder
from verifier.ports import (
    AccessToken,
    DeviceRecord,
    DocumentKind,
    Judgement,
    ReferenceDocument,
)
from verifier.ports.credentials import CredentialKind
from verifier.reference_values.model import ReferenceSet
from verifier.store import rows
from verifier.store.bulk import insert_rows
from verifier.store.credential_work import CredentialWriting
from verifier.store.reading import REFERENCE_REVISION
from verifier.store.reference_rows import document_columns, reference_set_document
from verifier.store.tables import (
    agents,
    devices,
    evidence,
    firmware_logs,
    outbox,
    reference_documents,
    reference_sets,
    results,
    tokens,
)

_MARK = (
    update(devices)
    .where(devices.c.device_id == bindparam("b_device"))
    .values(
        seq=bindparam("b_seq"),
        version=bindparam("b_version"),
        last_clock_ms=bindparam("b_last_clock_ms"),
        last_reset_count=bindparam("b_last_reset_count"),
        last_restart_count=bindparam("b_last_restart_count"),
        last_safe=bindparam("b_last_safe"),
        last_nonce_us=bindparam("b_last_nonce_us"),
    )
)
_COUNT = (
    update(devices)
    .where(devices.c.device_id == bindparam("b_device"))
    .values(seq=bindparam("b_seq"), version=bindparam("b_version"))
)
_PROGRESS = (
    update(devices)
    .where(devices.c.device_id == bindparam("b_device"))
    .values(progress=bindparam("b_progress"))
)
_KEEP_EVIDENCE = (
    update(evidence)
    .where(evidence.c.device_id == bindparam("b_device"))
    .values(
        message=bindparam("b_message"),
        progress=bindparam("b_progress"),
        log_sha256=bindparam("b_log_sha256"),
    )
)


class Work(CredentialWriting):
    """One open transaction.

    Args:
        connection: Inside a transaction that the store commits or rolls back.
        with_outbox: Whether recorded results are to be told.
    """

    def __init__(self, connection: Connection, *, with_outbox: bool) -> None:
        super().__init__(connection)
        self._with_outbox = with_outbox

    def enrol(self, record: DeviceRecord) -> None:
        """Write a new device, or a new enrolment of the same one.

        Args:
            record: ``version`` 0 for a new device, else the version it was read with.

        Raises:
            Conflict: If the row changed since it was read, or exists already.
        """
        self._take_log()  # before any row: whoever issues takes both in this order
        columns = rows.device_columns(record)
        if record.version == 0:
            try:
                self._connection.execute(insert(devices).values(**columns))
            except IntegrityError as error:
                raise moved_on(record.device) from error
            self._connection.execute(insert(evidence).values(device_id=record.device, message=b""))
        else:
            changed = self._connection.execute(
                update(devices)
                .where(devices.c.device_id == record.device, devices.c.version == record.version)
                .values(**columns, version=record.version + 1)
            )
            if changed.rowcount != 1:
                raise moved_on(record.device)

    def revoke(self, device: DeviceId, reason: str, at: datetime, code: int = 0) -> bool:
        """Revoke a device, its agents and all certificates; False if there is no such device.

        Args:
            device: Whom.
            reason: Why, for people.
            at: Now.
            code: Why, for revocation lists (RFC 5280, 5.3.1).
        """
        self._take_log()
        stamp = {"revoked_us": rows.to_us(at), "revoked_reason": reason}
        changed = self._connection.execute(
            update(devices)
            .where(devices.c.device_id == device)
            .values(**stamp, version=devices.c.version + 1)
        )
        self._revoke_all(device, code, reason, at)
        if self._with_outbox:
            newest = select(devices.c.device_id, devices.c.seq).where(
                devices.c.device_id == device, devices.c.seq > 0
            )
            self._connection.execute(insert(outbox).from_select(["device_id", "seq"], newest))
        return changed.rowcount == 1

    def carry_out(
        self, consequence: Consequence, device: DeviceId, at: datetime, *, agent: str = ""
    ) -> int:
        """Do to a device or agent what the revocation policy says; returns certificates revoked."""
        code, why = consequence.reason.value, consequence.why
        count = 0
        if consequence.action is Action.REVOKE_CERTIFICATES or (
            consequence.action is Action.REVOKE_HOLDER
        ):
            kinds = _kinds(consequence, agent)
            count = self.revoke_certificates(device, kinds, code, why, at, agent=agent)
        if consequence.action is Action.REVOKE_HOLDER:
            if agent:
                self.revoke_agent(device, agent, code, why, at)
            else:
                self.revoke(device, why, at, code)
        if consequence.action is Action.ALARM or (consequence.alarm and count):
            subject = f"{device}/{agent}" if agent else device
            self.raise_alarm(consequence.event, subject, why, at)
        return count

    def decommission(
        self, device: DeviceId, ends: datetime | None, at: datetime, *, agent: str = ""
    ) -> bool:
        """Plan by an operator's word when a device or agent ends, and log it.

        Whoever holds the row in memory, or issues to it, must look again before he writes.

        Args:
            device: The device.
            ends: From when on it is to be revoked; None for never.
            at: Now.
            agent: The agent; empty for the device.

        Returns:
            False if there is none, or it is revoked; nothing is written then.
        """
        self._take_log()  # before any row
        table = agents if agent else devices
        chosen = update(table).where(table.c.device_id == device, table.c.revoked_us.is_(None))
        changed = self._connection.execute(
            (chosen.where(agents.c.name == agent) if agent else chosen).values(
                decommission_us=rows.optional_us(ends),
                decommission_told=True,
                version=table.c.version + 1,
            )
        )
        if changed.rowcount != 1:
            return False
        told = None if ends is None else ends.isoformat()
        self.append_log(DECOMMISSION, {"device": device, "agent": agent, "ends": told}, at)
        return True

    def put_reference_set(self, chosen: ReferenceSet) -> None:
        """Add or replace the reference set of that name and version."""
        self._connection.execute(_reference_set(chosen.name, chosen.version))
        self._connection.execute(
            insert(reference_sets).values(
                name=chosen.name,
                version=chosen.version,
                created_us=rows.to_us(chosen.created),
                document=reference_set_document(chosen),
            )
        )
        self._count_reference_change()

    def remove_reference_set(self, name: str, *, version: int = 0) -> bool:
        """Remove a version of a reference set (0: all); False if there was none."""
        gone = self._connection.execute(_reference_set(name, version))
        self._count_reference_change()
        return gone.rowcount > 0

    def put_document(self, document: ReferenceDocument) -> None:
        """Add or replace the reference document of that kind and name."""
        self._connection.execute(_one_document(document.kind, document.name))
        self._connection.execute(insert(reference_documents).values(**document_columns(document)))
        self._count_reference_change()

    def remove_document(self, kind: DocumentKind, name: str) -> bool:
        """Remove a reference document; False if there was none."""
        gone = self._connection.execute(_one_document(kind, name))
        self._count_reference_change()
        return gone.rowcount == 1

    def put_token(self, token: AccessToken) -> None:
        """Add a token.

        Raises:
            Conflict: If the name is taken.
        """
        try:
            self._connection.execute(
                insert(tokens).values(
                    sha256=token.sha256,
                    name=token.name,
                    role=token.role,
                    created_us=rows.to_us(token.created_at),
                )
            )
        except IntegrityError as error:
            raise Conflict(
                RefusalCode.CONFLICT, f"a token named {token.name!r} exists; remove it first"
            ) from error

    def remove_token(self, name: str) -> bool:
        """Remove a token; False if there was none."""
        return self._connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount == 1

    def record(self, judgements: Sequence[Judgement]) -> list[bool]:
        """Write those judgements whose device row is still the one they were made from.

        The rows are locked first (SQLite: the transaction is IMMEDIATE), in order of id, so two
        writers can neither both accept one nonce nor wait for each other in a circle.
        """
        if any(judgement.consequence is not None for judgement in judgements):
            self._take_log()  # before any row, as whoever issues does
        wanted = sorted({judgement.result.device for judgement in judgements})
        found = self._connection.execute(
            select(devices.c.device_id, devices.c.version)
            .where(devices.c.device_id.in_(wanted))
            .order_by(devices.c.device_id)
            .with_for_update()
        )
        versions = {row.device_id: row.version for row in found}
        verdicts: list[bool] = []
        taken: list[Judgement] = []
        for judgement in judgements:
            device = judgement.result.device
            fits = versions.get(device) == judgement.based_on
            verdicts.append(fits)
            if fits:
                versions[device] = judgement.based_on + 1
                taken.append(judgement)
        if taken:
            self._mark(taken)
            self._add_results(taken)
        for judgement in taken:
            if judgement.consequence is not None:
                result = judgement.result
                self.carry_out(judgement.consequence, result.device, result.at)
        return verdicts

    def _mark(self, taken: Sequence[Judgement]) -> None:
        """Bring the rows of judged devices, and of their evidence, up to date."""
        connection = self._connection
        marked = [item for item in taken if item.last_seen is not None]
        counted = [item for item in taken if item.last_seen is None]
        if marked:
            connection.execute(_MARK, [rows.mark_columns(item) for item in marked])
        if counted:
            connection.execute(
                _COUNT,
                [
                    {
                        "b_device": item.result.device,
                        "b_seq": item.result.seq,
                        "b_version": item.based_on + 1,
                    }
                    for item in counted
                ],
            )
        if progress := rows.progress_columns(taken):
            connection.execute(_PROGRESS, progress)
        connection.execute(_KEEP_EVIDENCE, [rows.evidence_columns(item) for item in taken])

    def _add_results(self, taken: Sequence[Judgement]) -> None:
        """Write results, the firmware logs that were new, and who is to be told."""
        connection = self._connection
        insert_rows(connection, results, [rows.result_columns(item.result) for item in taken])
        logs = {
            item.firmware_log[0]: {
                "sha256": item.firmware_log[0],
                "content": item.firmware_log[1],
                "first_seen_us": rows.to_us(item.result.at),
            }
            for item in taken
            if item.firmware_log is not None
        }
        if logs:
            connection.execute(self._insert_or_keep(), list(logs.values()))
        if self._with_outbox:
            told = [{"device_id": item.result.device, "seq": item.result.seq} for item in taken]
            insert_rows(connection, outbox, told)

    def _insert_or_keep(self) -> postgresql.Insert | sqlite.Insert:
        if self._connection.dialect.name == "sqlite":
            return sqlite.insert(firmware_logs).on_conflict_do_nothing()
        return postgresql.insert(firmware_logs).on_conflict_do_nothing()

    def _count_reference_change(self) -> None:
        self._count(REFERENCE_REVISION)


def _kinds(consequence: Consequence, agent: str) -> tuple[CredentialKind, ...]:
    """Return which certificates of a device fall; of an agent its own, whatever is said."""
    if agent:
        return (CredentialKind.AGENT,)
    if consequence.action is Action.REVOKE_HOLDER:
        return tuple(CredentialKind)
    return tuple(_KINDS[one] for one in consequence.of)


_KINDS = {Holder.DEVICE: CredentialKind.DEVICE, Holder.AGENTS: CredentialKind.AGENT}


def _reference_set(name: str, version: int) -> Delete:
    named = delete(reference_sets).where(reference_sets.c.name == name)
    return named.where(reference_sets.c.version == version) if version else named


def _one_document(kind: DocumentKind, name: str) -> Delete:
    return delete(reference_documents).where(
        reference_documents.c.kind == kind.value, reference_documents.c.name == name
    )


def moved_on(device: DeviceId) -> Conflict:
    """Return the refusal of an enrolment whose device's row has changed."""
    return Conflict(
        RefusalCode.CONFLICT, f"device {device} changed meanwhile; repeat the enrolment"
    )
