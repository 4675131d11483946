"""Issuances of many devices in one transaction.

A commit costs an fsync, and a statement much more than a row; so all issuances that wait are
checked by a few questions and written by a few statements. Holding the issuance log's row, nobody
else issues, claims or revokes meanwhile; holding the devices' rows, nobody judges them. What is
refused is refused alone: nothing of it has been written when that is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, bindparam, select, update

from verifier.errors import Conflict
from verifier.issuance.log import ISSUED, REVOKED, canonical, entry_digest
from verifier.issuance.reasons import Reason
from verifier.ports import DeviceIssuance
from verifier.ports.credentials import SUPERSEDED, CredentialKind, IdentityClaim
from verifier.store import credential_rows, rows
from verifier.store.bulk import insert_rows
from verifier.store.conflicts import key_lost, key_taken, serial_taken, taken_by
from verifier.store.credential_reading import REVOCATION_REVISION
from verifier.store.rows import Columns, to_us
from verifier.store.tables import certificates, devices, evidence, identity_claims, issuance_log
from verifier.store.unit_of_work import Work, moved_on

_RENEW = (
    update(devices)
    .where(devices.c.device_id == bindparam("b_device"))
    .values(
        {
            column: bindparam(f"b_{column.name}")
            for column in devices.c
            if column.name not in {"device_id", "seq", "revoked_us", "revoked_reason"}
        }
    )
)
_VERSIONS = (
    select(devices.c.device_id, devices.c.version)
    .where(devices.c.device_id.in_(bindparam("b_names", expanding=True)))
    .order_by(devices.c.device_id)
    .with_for_update()
)
_HOLDERS = select(
    certificates.c.serial,
    certificates.c.spki_sha256,
    certificates.c.holder,
    certificates.c.revoked_code,
).where(
    certificates.c.serial.in_(bindparam("b_serials", expanding=True))
    | certificates.c.spki_sha256.in_(bindparam("b_keys", expanding=True))
)
_CLAIMS = select(identity_claims).where(
    # the kinds too: the key of the table begins with them, and without it all rows are read
    identity_claims.c.kind.in_(bindparam("b_kinds", expanding=True)),
    identity_claims.c.value.in_(bindparam("b_values", expanding=True)),
)
_END = (
    update(certificates)
    .where(certificates.c.sha256 == bindparam("b_sha256"))
    .values(ends_us=bindparam("b_ends_us"))
)
_SUPERSEDE = (
    update(certificates)
    .where(certificates.c.sha256 == bindparam("b_sha256"))
    .values(revoked_us=bindparam("b_us"), revoked_code=SUPERSEDED, revoked_reason="superseded")
)


@dataclass(slots=True, kw_only=True)
class _Known:
    """What the store holds of whatever a batch touches; kept up to date along the batch."""

    versions: dict[str, int] = field(default_factory=dict)
    serials: set[str] = field(default_factory=set)
    holders: dict[bytes, set[str]] = field(default_factory=dict)
    lost_keys: set[bytes] = field(default_factory=set)
    claims: dict[tuple[str, bytes], str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Rows:
    """What is to be written."""

    new: list[Columns] = field(default_factory=list)
    evidence: list[Columns] = field(default_factory=list)
    renewed: list[Columns] = field(default_factory=list)
    claims: list[Columns] = field(default_factory=list)
    certificates: list[Columns] = field(default_factory=list)
    entries: list[Columns] = field(default_factory=list)
    ends: list[Columns] = field(default_factory=list)
    superseded: list[Columns] = field(default_factory=list)


class Issuing(Work):
    """One open transaction that issues."""

    def issue_all(self, items: Sequence[DeviceIssuance]) -> list[int | Conflict]:
        """Write devices, claims, certificates, log entries and first results.

        Returns:
            For each item the number of its entry in the issuance log, or why it was refused:
            ``conflict`` if the device's row moved on, ``identity-taken``, ``serial-taken``,
            ``key-already-certified``.
        """
        number, head = self._take_log()
        known = self._known(items)
        older = self._older(items)
        chain = _Chain(number, head)
        written, outcomes, taken = _Rows(), list[int | Conflict](), list[DeviceIssuance]()
        for item in items:
            if (refusal := _refusal(item, known)) is not None:
                outcomes.append(refusal)
                continue
            outcomes.append(_write_down(item, known, written, chain))
            _end_older(item, older.get(item.record.device, ()), written, chain)
            taken.append(item)
        self._execute(written)
        self._head = chain.number, chain.head
        if written.superseded:
            self._count(REVOCATION_REVISION)
        if judged := [item for item in taken if item.judgement is not None]:
            self._add_judged(judged)
        return outcomes

    def _add_judged(self, judged: Sequence[DeviceIssuance]) -> None:
        """Write first results; a new device's row was written as they leave it."""
        judgements = [item.judgement for item in judged if item.judgement is not None]
        new = {item.record.device for item in judged if item.record.version == 0}
        if known := [one for one in judgements if one.result.device not in new]:
            self._mark(known)
        self._add_results(judgements)

    def _known(self, items: Sequence[DeviceIssuance]) -> _Known:
        execute = self._connection.execute
        names = sorted({item.record.device for item in items})
        found = execute(_VERSIONS, {"b_names": names})
        known = _Known(versions={row.device_id: row.version for row in found})
        serials = [credential_rows.serial_text(item.certificate.serial) for item in items]
        keys = list({item.certificate.spki_sha256 for item in items})
        for row in execute(_HOLDERS, {"b_serials": serials, "b_keys": keys}):
            known.serials.add(row.serial)
            known.holders.setdefault(bytes(row.spki_sha256), set()).add(row.holder)
            if row.revoked_code == Reason.KEY_COMPROMISE:
                known.lost_keys.add(bytes(row.spki_sha256))
        claims = {claim for item in items for claim in item.claims}
        kinds, values = {one.kind for one in claims}, {one.value for one in claims}
        for row in execute(_CLAIMS, {"b_kinds": list(kinds), "b_values": list(values)}):
            known.claims[row.kind, bytes(row.value)] = row.device_id
        return known

    def _older(self, items: Sequence[DeviceIssuance]) -> dict[str, list[_Older]]:
        """Return the live device certificates of devices that are there already."""
        names = {item.record.device for item in items if item.record.version}
        if not names:
            return {}
        columns = certificates.c
        query = select(columns.sha256, columns.serial, columns.ends_us, columns.device_id)
        alive = and_(
            columns.device_id.in_(names),
            columns.kind == CredentialKind.DEVICE.value,
            columns.revoked_us.is_(None),
        )
        found: dict[str, list[_Older]] = {}
        for row in self._connection.execute(query.where(alive).order_by(columns.number)):
            one = _Older(sha256=bytes(row.sha256), serial=row.serial, ends_us=row.ends_us)
            found.setdefault(row.device_id, []).append(one)
        return found

    def _execute(self, written: _Rows) -> None:
        connection = self._connection
        insert_rows(connection, devices, written.new)
        insert_rows(connection, evidence, written.evidence)
        if written.renewed:
            connection.execute(_RENEW, written.renewed)
        insert_rows(connection, identity_claims, written.claims)
        insert_rows(connection, certificates, written.certificates)
        if written.ends:
            connection.execute(_END, written.ends)
        if written.superseded:
            connection.execute(_SUPERSEDE, written.superseded)
        insert_rows(connection, issuance_log, written.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Older:
    sha256: bytes
    serial: str
    ends_us: int | None


class _Chain:
    """The issuance log's end, going on."""

    def __init__(self, number: int, head: bytes) -> None:
        self.number, self.head = number, head

    def append(self, kind: str, text: str, at_us: int) -> Columns:
        number, previous = self.number + 1, self.head
        digest = entry_digest(previous, number, at_us, kind, text)
        self.number, self.head = number, digest
        return {
            "number": number,
            "at_us": at_us,
            "kind": kind,
            "entry": text,
            "previous": previous,
            "sha256": digest,
        }


def _refusal(item: DeviceIssuance, known: _Known) -> Conflict | None:
    """Say why an issuance is refused, by what the store and this batch hold."""
    record, certificate = item.record, item.certificate
    if known.versions.get(record.device, 0) != record.version:
        return moved_on(record.device)
    for claim in item.claims:
        holder = known.claims.get((claim.kind, claim.value), record.device)
        if holder != record.device:
            return taken_by(claim, holder)
    if credential_rows.serial_text(certificate.serial) in known.serials:
        return serial_taken()
    others = known.holders.get(certificate.spki_sha256, set()) - {certificate.holder}
    if others:
        return key_taken(min(others))
    return key_lost() if certificate.spki_sha256 in known.lost_keys else None


def _write_down(item: DeviceIssuance, known: _Known, written: _Rows, chain: _Chain) -> int:
    """Put one issuance among the rows, and into what is known; return its entry's number."""
    record, certificate = item.record, item.certificate
    columns = rows.device_columns(record)
    if record.version == 0:
        written.new.append(columns | rows.first_mark_columns(item.judgement))
        written.evidence.append(rows.first_evidence_columns(record.device, item.judgement))
    else:
        prefixed = {f"b_{name}": value for name, value in columns.items() if name != "device_id"}
        written.renewed.append(
            {**prefixed, "b_device": record.device, "b_version": record.version + 1}
        )
    known.versions[record.device] = record.version + 1
    for claim in _new_claims(item.claims, known):
        known.claims[claim.kind, claim.value] = record.device
        written.claims.append(
            {"kind": claim.kind, "value": claim.value, "device_id": record.device}
        )
    serial = credential_rows.serial_text(certificate.serial)
    known.serials.add(serial)
    known.holders.setdefault(certificate.spki_sha256, set()).add(certificate.holder)
    written.entries.append(chain.append(ISSUED, canonical(item.entry), to_us(item.at)))
    written.certificates.append(credential_rows.certificate_columns(certificate, chain.number))
    return chain.number


def _new_claims(claims: Iterable[IdentityClaim], known: _Known) -> list[IdentityClaim]:
    unique = dict.fromkeys(claims)
    return [one for one in unique if (one.kind, one.value) not in known.claims]


def _end_older(
    item: DeviceIssuance, older: Sequence[_Older], written: _Rows, chain: _Chain
) -> None:
    """Plan the end of a device's other certificates; what ends now is revoked at once."""
    now_us, ends_us = to_us(item.at), to_us(item.older_end)
    for one in older:
        if ends_us > now_us:
            ends = ends_us if one.ends_us is None else min(ends_us, one.ends_us)
            written.ends.append({"b_sha256": one.sha256, "b_ends_us": ends})
            continue
        written.superseded.append({"b_sha256": one.sha256, "b_us": now_us})
        told = {"certificate": one.sha256.hex(), "serial": one.serial}
        text = canonical({**told, "code": SUPERSEDED, "reason": "superseded"})
        written.entries.append(chain.append(REVOKED, text, now_us))
