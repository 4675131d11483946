"""Rows about credentials to domain values and back."""

from __future__ import annotations

import json

from attestation.identity import DeviceId
from verifier.ports.credentials import (
    AgentRecord,
    Alarm,
    CredentialKind,
    IssuedCertificate,
    LogEntry,
    PublishedList,
    RevokedSerial,
    StoredCertificate,
)
from verifier.store.rows import (
    AnyRow,
    Columns,
    from_us,
    optional_moment,
    optional_us,
    to_us,
)


def certificate_columns(certificate: IssuedCertificate, number: int) -> Columns:
    """Return the columns of an issued certificate."""
    return {
        "sha256": certificate.sha256,
        "device_id": certificate.device,
        "serial": serial_text(certificate.serial),
        "der": certificate.der,
        "not_before_us": to_us(certificate.not_before),
        "not_after_us": to_us(certificate.not_after),
        "kind": certificate.kind.value,
        "agent": certificate.agent,
        "holder": certificate.holder,
        "profile": certificate.profile,
        "issuer_sha256": certificate.issuer_sha256,
        "spki_sha256": certificate.spki_sha256,
        "number": number,
    }


def serial_text(serial: int) -> str:
    """Return a serial number as the store writes it."""
    return f"{serial:x}"


def certificate_from(row: AnyRow) -> StoredCertificate:
    """Build a certificate from its row."""
    return StoredCertificate(
        certificate=IssuedCertificate(
            sha256=bytes(row.sha256),
            device=DeviceId(row.device_id),
            serial=int(row.serial, 16),
            der=bytes(row.der),
            not_before=from_us(row.not_before_us),
            not_after=from_us(row.not_after_us),
            kind=CredentialKind(row.kind),
            agent=row.agent,
            holder=row.holder,
            profile=row.profile,
            issuer_sha256=bytes(row.issuer_sha256),
            spki_sha256=bytes(row.spki_sha256),
        ),
        number=row.number,
        ends_at=optional_moment(row.ends_us),
        revoked_at=optional_moment(row.revoked_us),
        revoked_code=row.revoked_code,
        revoked_reason=row.revoked_reason,
    )


def revoked_from(serial: str, revoked_us: int, code: int) -> RevokedSerial:
    """Build one row of a revocation list."""
    return RevokedSerial(int(serial, 16), from_us(revoked_us), code)


def agent_columns(record: AgentRecord) -> Columns:
    """Return the columns of an agent but its version."""
    return {
        "device_id": record.device,
        "name": record.name,
        "agent_class": record.agent_class,
        "holder": record.holder,
        "owner": record.owner,
        "capabilities": json.dumps(record.capabilities),
        "locator": record.locator,
        "validation_methods": json.dumps(record.validation_methods),
        "certificate_sha256": record.certificate_sha256,
        "certificate_not_after_us": to_us(record.certificate_not_after),
        "enrolled_us": to_us(record.enrolled_at),
        "decommission_us": optional_us(record.decommission_at),
        "decommission_told": record.decommission_told,
    }


def agent_from(row: AnyRow) -> AgentRecord:
    """Build an agent from its row."""
    return AgentRecord(
        device=DeviceId(row.device_id),
        name=row.name,
        agent_class=row.agent_class,
        holder=row.holder,
        owner=row.owner,
        capabilities=tuple(json.loads(row.capabilities)),
        locator=row.locator,
        validation_methods=tuple(json.loads(row.validation_methods)),
        certificate_sha256=bytes(row.certificate_sha256),
        certificate_not_after=from_us(row.certificate_not_after_us),
        enrolled_at=from_us(row.enrolled_us),
        decommission_at=optional_moment(row.decommission_us),
        decommission_told=bool(row.decommission_told),
        revoked_reason=row.revoked_reason,
        version=row.version,
    )


def entry_from(row: AnyRow) -> LogEntry:
    """Build an entry of the issuance log from its row."""
    return LogEntry(
        number=row.number,
        at=from_us(row.at_us),
        kind=row.kind,
        entry=row.entry,
        previous=bytes(row.previous),
        sha256=bytes(row.sha256),
    )


def list_columns(published: PublishedList) -> Columns:
    """Return the columns of a revocation list."""
    return {
        "issuer_sha256": published.issuer_sha256,
        "number": published.number,
        "der": published.der,
        "this_update_us": to_us(published.this_update),
        "next_update_us": to_us(published.next_update),
        "revision": published.revision,
    }


def list_from(row: AnyRow) -> PublishedList:
    """Build a revocation list from its row."""
    return PublishedList(
        issuer_sha256=bytes(row.issuer_sha256),
        number=row.number,
        der=bytes(row.der),
        this_update=from_us(row.this_update_us),
        next_update=from_us(row.next_update_us),
        revision=row.revision,
    )


def alarm_from(row: AnyRow) -> Alarm:
    """Build an alarm from its row."""
    return Alarm(
        number=row.number,
        at=from_us(row.at_us),
        code=row.code,
        subject=row.subject,
        reason=row.reason,
        seen_at=optional_moment(row.seen_us),
    )
