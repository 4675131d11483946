"""What is kept of a device that was accepted, and whether its request is newer than the last."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from attestation.errors import NotFresh
from attestation.refusals import RefusalCode
from verifier.appraisal.freshness import REPLICA_SKEW, issued_at
from verifier.issuance.enrolment_terms import AcceptedEnrolment
from verifier.ports import DeviceRecord, Store
from verifier.ports.credentials import IssuedCertificate

NEW: Final = 0
"""Row version of a device that is not there yet."""

_SPENT_DOMAIN: Final = b"device-attestation/enrolment/v1\x00"


def enrolled_record(
    accepted: AcceptedEnrolment,
    existing: DeviceRecord | None,
    issued: IssuedCertificate,
    ends: datetime | None,
    at: datetime,
) -> DeviceRecord:
    """Return the device's row; without new evidence its clock and list stay as they were.

    Args:
        accepted: The device.
        existing: Its row before; None for a new one.
        issued: Its new certificate.
        ends: From :func:`verifier.services.decommission.planned_end`.
        at: Now (aware).
    """
    enrolment = accepted.enrolment
    if accepted.result is None and existing is not None:
        before = existing.enrolment
        enrolment = replace(enrolment, last_seen=before.last_seen, progress=before.progress)
    return DeviceRecord(
        enrolment=enrolment,
        hardware_serial=accepted.hardware_serial,
        idevid_sha256=accepted.idevid_sha256,
        certificate_sha256=issued.sha256,
        certificate_not_after=issued.not_after,
        enrolled_at=at,
        seq=existing.seq if existing else 0,
        version=existing.version if existing else NEW,
        decommission_at=ends,
        decommission_told=existing is not None and existing.decommission_told,
    )


def require_newer(accepted: AcceptedEnrolment, existing: DeviceRecord | None) -> None:
    """Refuse an enrolment request that was answered before (its nonce is stateless).

    What is known of a device's nonces is known of its evidence; :func:`spend_challenge` is for
    requests without.

    Raises:
        NotFresh: ``nonce-reused``.
    """
    before = existing.enrolment.last_seen if existing else None
    if before is None:
        return
    if round(issued_at(accepted.nonce).timestamp() * 1_000_000) <= before.issued_us:
        raise NotFresh(
            RefusalCode.NONCE_REUSED,
            f"device {accepted.device} has answered this or a newer challenge before; "
            "ask for a new challenge",
            structure="nonce",
        )


def spend_challenge(store: Store, nonce: bytes, ttl: timedelta, at: datetime) -> None:
    """Note that a request without evidence has answered a challenge; it has one answer.

    It is written before anything is issued: whoever is not answered asks for a new challenge.

    Args:
        store: Remembers it until the nonce would be refused for its age.
        nonce: The challenge, proven to be ours.
        ttl: How long it may be answered.
        at: Now (aware).

    Raises:
        NotFresh: ``nonce-reused``.
        Unavailable: If the store cannot.
    """
    spent = hashlib.sha256(_SPENT_DOMAIN + nonce).digest()
    with store.work() as work:
        is_first = work.spend_activation(spent, at + ttl + 2 * REPLICA_SKEW)
    if not is_first:
        raise NotFresh(
            RefusalCode.NONCE_REUSED,
            "this challenge was answered by an enrolment before; ask for a new challenge",
            structure="nonce",
        )
