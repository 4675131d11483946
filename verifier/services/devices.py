"""Devices: who is behind a certificate, what is known of them, and revocation."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from attestation.identity import DeviceId, device_id
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from verifier.errors import NotAuthenticated, NotAuthorised, NotFound
from verifier.issuance.reasons import Reason
from verifier.issuance.revocation_policy import Event
from verifier.ports import DeviceRecord, Judgement, Store, StoredResult
from verifier.ports.credentials import SUPERSEDED, CredentialKind, StoredCertificate

MAX_CACHED: Final = 20_000
"""Devices kept in memory; each takes about 4 kB."""


class DeviceCache:
    """Devices by certificate, kept in memory.

    A cached record may be stale. That is safe: every write names the row version that it was
    based on and is refused when the row has moved on (revoked, its newest certificate revoked,
    enrolled again, judged by another replica); the caller then loads anew. Behind an older
    certificate, good for a while after key rotation, the store is asked each time.

    Args:
        store: Where devices are.
        capacity: Devices kept.
    """

    def __init__(self, store: Store, capacity: int = MAX_CACHED) -> None:
        self._store = store
        self._capacity = capacity
        self._by_fingerprint: OrderedDict[bytes, DeviceRecord] = OrderedDict()

    def by_certificate(
        self, der: bytes, at: datetime, *, fresh: bool = False, attesting: bool = False
    ) -> DeviceRecord:
        """Return the device whose LDevID certificate this is.

        Args:
            der: A certificate that the TLS handshake has verified.
            at: Now.
            fresh: Ask the store even if the device is in memory.
            attesting: Whether it is asked in order to attest, and for nothing else: then a
                certificate that fell with contraindicated evidence does for as long as the device
                is judged so (ADR 0009). Its record says ``withdrawn``.

        Raises:
            NotAuthenticated: If it is not a certificate that we issued.
            NotAuthorised: If it is superseded, revoked or expired, or the device is revoked or past
                its planned end.
        """
        fingerprint = hashlib.sha256(der).digest()
        record = None if fresh else self._by_fingerprint.get(fingerprint)
        if record is None:
            record = self._load(fingerprint, at, attesting=attesting)
        return self._usable(record, fingerprint, at)

    def in_memory(self, der: bytes) -> bool:
        """Say whether a device can be had without asking the store."""
        return hashlib.sha256(der).digest() in self._by_fingerprint

    def judged(self, record: DeviceRecord, judgement: Judgement) -> None:
        """Bring the device's record up to a judgement that was committed."""
        if record.withdrawn or judgement.consequence is not None:
            # What became of its certificate is the store's to say, each time.
            self._by_fingerprint.pop(record.certificate_sha256, None)
            return
        enrolment = record.enrolment
        if judgement.last_seen is not None:
            enrolment = enrolment.seen(
                judgement.last_seen, judgement.progress or enrolment.progress
            )
        newer = replace(
            record,
            enrolment=enrolment,
            seq=judgement.result.seq,
            version=judgement.based_on + 1,
        )
        kept = self._by_fingerprint.get(record.certificate_sha256)
        if kept is None or kept.version >= newer.version:
            return
        if kept.version == record.version:
            self._by_fingerprint[record.certificate_sha256] = newer
        else:  # Something happened in between: what stands behind it is the store's to say.
            del self._by_fingerprint[record.certificate_sha256]

    def _load(self, fingerprint: bytes, at: datetime, *, attesting: bool) -> DeviceRecord:
        """Ask the store; only what stands behind a device's newest certificate is kept."""
        self._by_fingerprint.pop(fingerprint, None)
        stored = self._store.certificate(fingerprint)
        if stored is None or stored.certificate.kind is not CredentialKind.DEVICE:
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_WRONG,
                "the client certificate is not one that this verifier issued to a device; "
                "enrol first",
            )
        record = self._store.device(stored.certificate.device)
        if record is None:
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_WRONG,
                "the client certificate is of a device that is not enrolled here; enrol first",
            )
        _require_not_ended(stored.certificate.not_after, at)
        if attesting and self._unwell(record, stored):
            return replace(record, withdrawn=True)
        _require_not_revoked(record, stored)
        if record.certificate_sha256 == fingerprint:
            self._by_fingerprint[fingerprint] = record
            while len(self._by_fingerprint) > self._capacity:
                self._by_fingerprint.popitem(last=False)
        return record

    def _unwell(self, record: DeviceRecord, stored: StoredCertificate) -> bool:
        """Say whether a certificate fell with its device's state, and that state lasts.

        Only ``privilegeWithdrawn`` says that the key is still the device's own.
        """
        if stored.revoked_at is None or record.enrolment.revoked:
            return False
        if stored.revoked_code != Reason.PRIVILEGE_WITHDRAWN:
            return False
        newest = self._store.newest_result(record.device)
        return newest is not None and newest.status >= TrustTier.CONTRAINDICATED

    def _usable(self, record: DeviceRecord, fingerprint: bytes, at: datetime) -> DeviceRecord:
        if record.certificate_sha256 == fingerprint:
            _require_not_ended(record.certificate_not_after, at)
        _require_in_service(record, at)
        return record


def _require_not_revoked(record: DeviceRecord, stored: StoredCertificate) -> None:
    """Refuse a revoked device, and a certificate that was revoked alone.

    Raises:
        NotAuthorised: ``device-revoked``, ``certificate-revoked``, ``client-certificate-wrong``.
    """
    if record.enrolment.revoked:
        raise NotAuthorised(
            RefusalCode.DEVICE_REVOKED,
            f"device {record.device} is revoked: {record.revoked_reason}",
        )
    if stored.revoked_at is None:
        return
    if stored.revoked_code == SUPERSEDED:
        raise NotAuthorised(
            RefusalCode.CLIENT_CERTIFICATE_WRONG,
            "the client certificate was superseded by a newer enrolment; use the newest",
        )
    raise NotAuthorised(
        RefusalCode.CERTIFICATE_REVOKED,
        f"the client certificate was revoked: {stored.revoked_reason}; enrol again",
    )


def _require_not_ended(not_after: datetime, at: datetime) -> None:
    if at >= not_after:
        raise NotAuthorised(
            RefusalCode.CERTIFICATE_EXPIRED, "the LDevID certificate has ended; enrol again"
        )


def _require_in_service(record: DeviceRecord, at: datetime) -> None:
    """Refuse a device past its planned end, whether or not it was revoked for that yet.

    Raises:
        NotAuthorised: ``device-decommissioned``.
    """
    if record.decommission_at is not None and at >= record.decommission_at:
        raise NotAuthorised(
            RefusalCode.DEVICE_DECOMMISSIONED,
            f"device {record.device} was to be decommissioned at "
            f"{record.decommission_at.isoformat()}",
        )


class Devices:
    """What operators and readers ask about devices.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def show(self, name: str) -> tuple[DeviceRecord, StoredResult | None]:
        """Return a device and its newest result.

        Raises:
            NotFound: If there is no such device.
        """
        record = self._store.device(device_id(name))
        if record is None:
            raise unknown_device(name)
        return record, self._store.newest_result(record.device)

    def page(self, *, after: str, limit: int) -> Sequence[tuple[DeviceRecord, StoredResult | None]]:
        """Return devices in order of id, each with its newest result."""
        records = self._store.devices(after=after, limit=limit)
        newest = self._store.newest_results([record.device for record in records])
        return [(record, newest.get(record.device)) for record in records]

    def history(self, name: str, *, before: int, limit: int) -> Sequence[StoredResult]:
        """Return a device's results, newest first.

        Raises:
            NotFound: If there is no such device.
        """
        record = self._store.device(device_id(name))
        if record is None:
            raise unknown_device(name)
        return self._store.history(record.device, before=before, limit=limit)

    def revoke(
        self,
        name: str,
        reason: str,
        at: datetime,
        code: Reason = Reason.UNSPECIFIED,
        *,
        alarm: bool = False,
    ) -> DeviceId:
        """Revoke a device: its certificates end, and its evidence is refused from now on.

        Args:
            name: The device.
            reason: Why, for people.
            at: Now (aware).
            code: Why, for revocation lists.
            alarm: Whether other operators are told.

        Raises:
            NotFound: If there is no such device.
        """
        device = device_id(name)
        with self._store.work() as work:
            if not work.revoke(device, reason, at, code.value):
                raise unknown_device(name)
            if alarm:
                work.raise_alarm(Event.OPERATOR.value, device, reason, at)
        return device


def unknown_device(name: str) -> NotFound:
    """Return the refusal for a device that is not enrolled."""
    return NotFound(RefusalCode.DEVICE_UNKNOWN, f"no device {name!r} is enrolled here")
