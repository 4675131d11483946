"""Records to the JSON documents of the API and of the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.result import TrustTier
from verifier.ports import DeviceRecord, StoredResult


def moment(at: datetime) -> str:
    """Return a moment in RFC 3339, UTC, milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def result_document(result: StoredResult, at: datetime) -> dict[str, object]:
    """Return one result.

    Args:
        result: The result.
        at: Now; says whether it has expired.
    """
    return {
        "seq": result.seq,
        "at": moment(result.at),
        "expires_at": moment(result.expires_at),
        "expired": at >= result.expires_at,
        "status": TrustTier(result.status).label,
        "vector": dict(result.vector),
        "reasons": list(result.reasons),
        "allow": result.allow,
        "policy_id": result.policy_id,
        "reference_set": result.reference_set,
        "evidence_sha256": result.evidence_sha256.hex(),
        "ear": result.ear,
    }


def device_document(
    record: DeviceRecord, newest: StoredResult | None, at: datetime
) -> dict[str, object]:
    """Return one device with its newest result."""
    return {
        "device_id": record.device,
        "device_class": record.enrolment.device_class,
        "hardware_serial": record.hardware_serial,
        "ak_name": bytes(record.enrolment.ak_name).hex(),
        "enrolled_at": moment(record.enrolled_at),
        "certificate_not_after": moment(record.certificate_not_after),
        "revoked": record.enrolment.revoked,
        "revoked_reason": record.revoked_reason,
        "result": result_document(newest, at) if newest else None,
    }
