"""Records to the JSON documents of the API and of the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.result import TrustTier
from verifier.decision.history import History
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


def history_document(told: History) -> dict[str, object]:
    """Return how a device's results developed; moments are null where there is none."""
    return {
        "status": told.status.label if told.status is not None else None,
        "since": moment(told.since) if told.since else None,
        "last_good_at": moment(told.last_good_at) if told.last_good_at else None,
        "last_good_until": moment(told.last_good_until) if told.last_good_until else None,
        "stale_for_s": told.stale_for.total_seconds(),
        "in_grace": told.in_grace,
        "complete": told.complete,
        "changes": [
            {
                "at": moment(one.at),
                "from": one.before.label,
                "to": one.after.label,
                "appeared": list(one.appeared),
                "disappeared": list(one.disappeared),
                "claims": {claim: list(values) for claim, values in one.claims.items()},
                "why": one.why,
            }
            for one in told.transitions
        ],
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
        "decommission_at": moment(record.decommission_at) if record.decommission_at else None,
        "revoked": record.enrolment.revoked,
        "revoked_reason": record.revoked_reason,
        "result": result_document(newest, at) if newest else None,
    }
