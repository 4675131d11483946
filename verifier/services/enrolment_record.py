"""What is kept of a device that was accepted, and whether its request is newer than the last."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from attestation.errors import NotFresh
from attestation.refusals import RefusalCode
from verifier.appraisal.freshness import issued_at
from verifier.issuance.enrolment_terms import AcceptedEnrolment
from verifier.ports import DeviceRecord
from verifier.ports.credentials import IssuedCertificate

NEW: Final = 0
"""Row version of a device that is not there yet."""


def enrolled_record(
    accepted: AcceptedEnrolment,
    existing: DeviceRecord | None,
    issued: IssuedCertificate,
    at: datetime,
) -> DeviceRecord:
    """Return the device's row; without new evidence its clock and list stay as they were."""
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
    )


def require_newer(accepted: AcceptedEnrolment, existing: DeviceRecord | None) -> None:
    """Refuse an enrolment request that was answered before (its nonce is stateless).

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
