"""Writes about credentials in one transaction: the ``CredentialWork`` port.

Whatever enters the issuance log takes the log's row in ``revisions`` first and keeps it until the
transaction ends (SQLite: the whole store is taken already): there is one writer of the chain at a
time, and what is looked up after that cannot change underneath.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Row, Select, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from verifier.errors import Conflict
from verifier.issuance.enrolment_identity import IDEVID_KEY
from verifier.issuance.log import ISSUED, ORIGIN, REVOKED, canonical, entry_digest
from verifier.issuance.reasons import Reason, may_take_the_place
from verifier.ports.credentials import (
    SUPERSEDED,
    AgentRecord,
    CredentialKind,
    IdentityClaim,
    IssuedCertificate,
    LogEntry,
    PublishedList,
)
from verifier.store import credential_rows as rows
from verifier.store.conflicts import key_lost, key_taken, serial_taken, taken_by
from verifier.store.credential_reading import REVOCATION_REVISION
from verifier.store.rows import from_us, to_us
from verifier.store.tables import (
    agents,
    alarms,
    certificates,
    devices,
    identity_claims,
    issuance_log,
    published_lists,
    revisions,
    spent_activations,
)

_LOG: Final = "issuance-log"
_BRIEF = (
    certificates.c.sha256,
    certificates.c.serial,
    certificates.c.ends_us,
    certificates.c.device_id,
    certificates.c.kind,
)
_Brief = Row[tuple[bytes, str, int | None, str, str]]
_Query = Select[tuple[bytes, str, int | None, str, str]]


class CredentialWriting:
    """One open transaction.

    Args:
        connection: Inside a transaction that the store commits or rolls back.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._head: tuple[int, bytes] | None = None

    def hold_device(self, device: DeviceId, version: int) -> None:
        """Keep a device's row as it is until the transaction ends.

        Raises:
            Conflict: If it changed since ``version`` was read: it was judged anew, or revoked.
        """
        self._take_log()  # before any row, as whoever issues does
        # An update that changes nothing takes the row's lock, in SQLite the store's.
        held = self._connection.execute(
            update(devices)
            .where(devices.c.device_id == device, devices.c.version == version)
            .values(version=version)
        )
        if held.rowcount != 1:
            raise Conflict(
                RefusalCode.CONFLICT,
                f"device {device} was judged anew or revoked meanwhile; repeat the request",
            )

    def issue(
        self, certificate: IssuedCertificate, entry: Mapping[str, object], at: datetime
    ) -> int:
        """Record a certificate and its entry (kind ``issued``) in the issuance log.

        Raises:
            Conflict: ``serial-taken``, or ``key-already-certified`` if the key was certified for
                another holder.
        """
        self._take_log()
        self._require_new(certificate)
        number = self.append_log(ISSUED, entry, at).number
        columns = rows.certificate_columns(certificate, number)
        self._connection.execute(insert(certificates).values(**columns))
        return number

    def supersede(self, certificate: IssuedCertificate, ends_at: datetime, at: datetime) -> None:
        """Plan the end of every other certificate of the same device and agent.

        One whose end has come with this is revoked at once.
        """
        others = self._live(
            select(*_BRIEF).where(
                certificates.c.device_id == certificate.device,
                certificates.c.kind == certificate.kind.value,
                certificates.c.agent == certificate.agent,
                certificates.c.sha256 != certificate.sha256,
            )
        )
        ends_us = to_us(ends_at)
        for other in others:
            ends = ends_us if other.ends_us is None else min(ends_us, other.ends_us)
            if ends_at <= at:
                self._revoke(other, SUPERSEDED, "superseded", at)
                continue
            self._connection.execute(
                update(certificates)
                .where(certificates.c.sha256 == other.sha256)
                .values(ends_us=ends)
            )

    def claim(self, device: DeviceId, claims: Sequence[IdentityClaim]) -> None:
        """Note what a device is; what it claimed before stays its own.

        Raises:
            Conflict: ``identity-taken`` if another device is one of these already.
        """
        for one in claims:
            query = select(identity_claims.c.device_id).where(
                identity_claims.c.kind == one.kind, identity_claims.c.value == one.value
            )
            holder = self._connection.execute(query).scalar()
            if holder == device:
                continue
            if holder is not None:
                raise taken_by(one, holder)
            try:
                self._connection.execute(
                    insert(identity_claims).values(kind=one.kind, value=one.value, device_id=device)
                )
            except IntegrityError as error:
                raise taken_by(one, "another device") from error

    def revoke_certificate(self, sha256: bytes, code: int, reason: str, at: datetime) -> bool:
        """Revoke one certificate and log it; False if there is none or it was revoked before.

        One that was revoked for less is then revoked for a key that is in other hands, and never
        the other way round; the moment of its revocation stays.
        """
        found = self._revocable(select(*_BRIEF).where(certificates.c.sha256 == sha256), code)
        for one in found:
            self._revoke(one, code, reason, at)
        return bool(found)

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

        For a key that is in other hands also what was revoked for less.
        """
        query = select(*_BRIEF).where(
            certificates.c.device_id == device,
            certificates.c.kind.in_([kind.value for kind in kinds]),
        )
        chosen = query.where(certificates.c.agent == agent) if agent else query
        found = self._revocable(chosen, code)
        for one in found:
            self._revoke(one, code, reason, at)
        return len(found)

    def put_agent(self, record: AgentRecord) -> None:
        """Write a new agent (version 0) or a new enrolment of the same one.

        Raises:
            Conflict: If the row changed since ``record.version`` was read, or exists already.
        """
        columns = rows.agent_columns(record)
        if record.version == 0:
            try:
                self._connection.execute(insert(agents).values(**columns))
            except IntegrityError as error:
                raise _agent_moved_on(record) from error
            return
        changed = self._connection.execute(
            update(agents)
            .where(
                agents.c.device_id == record.device,
                agents.c.name == record.name,
                agents.c.version == record.version,
            )
            .values(**columns, version=record.version + 1)
        )
        if changed.rowcount != 1:
            raise _agent_moved_on(record)

    def revoke_agent(
        self, device: DeviceId, name: str, code: int, reason: str, at: datetime
    ) -> bool:
        """Revoke an agent and its certificates and log it; False if there is none."""
        self._take_log()  # before any row
        changed = self._connection.execute(
            update(agents)
            .where(agents.c.device_id == device, agents.c.name == name)
            .values(revoked_us=to_us(at), revoked_reason=reason, version=agents.c.version + 1)
        )
        query = select(*_BRIEF).where(
            certificates.c.device_id == device,
            certificates.c.kind == CredentialKind.AGENT.value,
            certificates.c.agent == name,
        )
        found = self._revocable(query, code)
        for one in found:
            self._revoke(one, code, reason, at)
        return changed.rowcount == 1

    def append_log(self, kind: str, entry: Mapping[str, object], at: datetime) -> LogEntry:
        """Append an entry to the issuance log."""
        number, previous = self._take_log()
        number, text, at_us = number + 1, canonical(entry), to_us(at)
        digest = entry_digest(previous, number, at_us, kind, text)
        self._connection.execute(
            insert(issuance_log).values(
                number=number, at_us=at_us, kind=kind, entry=text, previous=previous, sha256=digest
            )
        )
        self._head = number, digest
        return LogEntry(
            number=number,
            at=from_us(at_us),
            kind=kind,
            entry=text,
            previous=previous,
            sha256=digest,
        )

    def put_list(self, published: PublishedList) -> bool:
        """Keep an issuer's newest revocation list; False if a newer one is kept already."""
        is_sqlite = self._connection.dialect.name == "sqlite"
        kept = (sqlite if is_sqlite else postgresql).insert(published_lists)
        columns = rows.list_columns(published)
        written = kept.values(**columns).on_conflict_do_update(
            index_elements=[published_lists.c.issuer_sha256],
            set_=columns,
            where=published_lists.c.number < published.number,
        )
        done = self._connection.execute(written.returning(published_lists.c.number))
        return done.first() is not None

    def spend_activation(self, sha256: bytes, ends_at: datetime) -> bool:
        """Note that an activation, or what else has one use, is tried; False if it was before."""
        is_sqlite = self._connection.dialect.name == "sqlite"
        kept = (sqlite if is_sqlite else postgresql).insert(spent_activations)
        # What was written is asked for: psycopg tells no number of rows for such an INSERT.
        written = kept.on_conflict_do_nothing().values(sha256=sha256, ends_us=to_us(ends_at))
        done = self._connection.execute(written.returning(spent_activations.c.sha256))
        return done.first() is not None

    def raise_alarm(self, code: str, subject: str, reason: str, at: datetime) -> None:
        """Raise an alarm; one of the same code and subject that nobody has seen stays as it is."""
        same = select(alarms.c.number).where(
            alarms.c.code == code, alarms.c.subject == subject, alarms.c.seen_us.is_(None)
        )
        if self._connection.execute(same.limit(1)).first() is None:
            self._connection.execute(
                insert(alarms).values(at_us=to_us(at), code=code, subject=subject, reason=reason)
            )

    def see_alarm(self, number: int, at: datetime) -> bool:
        """Take note of an alarm; False if there is none of that number."""
        changed = self._connection.execute(
            update(alarms).where(alarms.c.number == number).values(seen_us=to_us(at))
        )
        return changed.rowcount == 1

    def _revoke_all(self, device: DeviceId, code: int, reason: str, at: datetime) -> None:
        """Revoke every certificate of a device and of its agents."""
        query = select(*_BRIEF).where(certificates.c.device_id == device)
        found = self._revocable(query, code)
        for one in found:
            self._revoke(one, code, reason, at)
        self._connection.execute(
            update(agents)
            .where(agents.c.device_id == device, agents.c.revoked_us.is_(None))
            .values(revoked_us=to_us(at), revoked_reason=reason, version=agents.c.version + 1)
        )

    def _live(self, query: _Query) -> Sequence[_Brief]:
        """Return those certificates that are not revoked; nobody else can revoke them meanwhile."""
        return self._chosen(query.where(certificates.c.revoked_us.is_(None)))

    def _revocable(self, query: _Query, code: int) -> Sequence[_Brief]:
        """Return those that are not revoked, or were for less than ``code``."""
        lesser = [one.value for one in Reason if may_take_the_place(code, one)]
        for_less = certificates.c.revoked_code.in_(lesser)
        return self._chosen(query.where(or_(certificates.c.revoked_us.is_(None), for_less)))

    def _chosen(self, query: _Query) -> Sequence[_Brief]:
        self._take_log()
        return self._connection.execute(query.order_by(certificates.c.number)).fetchall()

    def _revoke(self, one: _Brief, code: int, reason: str, at: datetime) -> None:
        self._connection.execute(
            update(certificates)
            .where(certificates.c.sha256 == one.sha256)
            .values(
                revoked_us=func.coalesce(certificates.c.revoked_us, to_us(at)),
                revoked_code=code,
                revoked_reason=reason,
            )
        )
        # Whoever holds the device in memory, or issues to it, must look again before he writes.
        if one.kind == CredentialKind.DEVICE.value:
            moved = update(devices).where(devices.c.device_id == one.device_id)
            self._connection.execute(moved.values(version=devices.c.version + 1))
        told = {"certificate": bytes(one.sha256).hex(), "serial": one.serial}
        self.append_log(REVOKED, {**told, "code": code, "reason": reason}, at)
        self._count(REVOCATION_REVISION)

    def _require_new(self, certificate: IssuedCertificate) -> None:
        serial = select(certificates.c.number).where(
            certificates.c.serial == rows.serial_text(certificate.serial)
        )
        if self._connection.execute(serial).first() is not None:
            raise serial_taken()
        if not certificate.spki_sha256:
            return
        same_key = certificates.c.spki_sha256 == certificate.spki_sha256
        query = select(certificates.c.holder).where(
            same_key, certificates.c.holder != certificate.holder
        )
        holder = self._connection.execute(query.limit(1)).scalar()
        if holder is not None:
            raise key_taken(holder)
        lost = certificates.c.revoked_code == Reason.KEY_COMPROMISE
        compromised = select(certificates.c.number).where(same_key, lost).limit(1)
        if self._connection.execute(compromised).first() is not None:
            raise key_lost()
        if certificate.kind is CredentialKind.AGENT:
            self._require_no_idevid(certificate)

    def _require_no_idevid(self, certificate: IssuedCertificate) -> None:
        """Refuse a key that a maker has certified as some device's own identity."""
        columns, key = identity_claims.c, certificate.spki_sha256
        query = select(columns.device_id).where(columns.kind == IDEVID_KEY, columns.value == key)
        device = self._connection.execute(query).scalar()
        if device is not None:
            raise key_taken(f"device {device} by its maker (IDevID)")

    def _take_log(self) -> tuple[int, bytes]:
        """Become the log's only writer and return its last number and digest."""
        if self._head is None:
            row = select(revisions.c.number).where(revisions.c.subject == _LOG).with_for_update()
            if self._connection.execute(row).first() is None:
                raise RuntimeError("the issuance log has no row in revisions; run: verifier init")
            query = select(issuance_log.c.number, issuance_log.c.sha256)
            last = self._connection.execute(
                query.order_by(issuance_log.c.number.desc()).limit(1)
            ).first()
            self._head = (last.number, bytes(last.sha256)) if last else (0, ORIGIN)
        return self._head

    def _count(self, subject: str) -> None:
        changed = self._connection.execute(
            update(revisions)
            .where(revisions.c.subject == subject)
            .values(number=revisions.c.number + 1)
        )
        if changed.rowcount == 0:
            self._connection.execute(insert(revisions).values(subject=subject, number=1))


def _agent_moved_on(record: AgentRecord) -> Conflict:
    return Conflict(
        RefusalCode.CONFLICT,
        f"agent {record.name} of device {record.device} changed meanwhile; repeat the request",
    )
