"""Rows to domain values and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row

from attestation.identity import DeviceId, KeyName
from attestation.tpm.clock import TpmClock
from verifier.appraisal.enrolment import Enrolment, LastSeen
from verifier.ports import AccessToken, DeviceRecord, Judgement, StoredResult
from verifier.store.progress_rows import decode_progress, encode_progress

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

AnyRow = Row[Any]
Columns = dict[str, object]


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(number: int) -> datetime:
    """Return the moment (aware, UTC) of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=number)


def optional_us(moment: datetime | None) -> int | None:
    """Return the same of a moment that may be none."""
    return None if moment is None else to_us(moment)


def optional_moment(number: int | None) -> datetime | None:
    """Return the moment of microseconds that may be none."""
    return None if number is None else from_us(number)


def _text(value: Mapping[str, int] | Sequence[object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def device_columns(record: DeviceRecord) -> Columns:
    """Return the columns of an enrolment; history, clock and version are not among them."""
    enrolment = record.enrolment
    return {
        "device_id": enrolment.device,
        "ak_public": enrolment.ak_public,
        "ak_name": bytes(enrolment.ak_name),
        "hardware_serial": record.hardware_serial,
        "idevid_sha256": record.idevid_sha256,
        "anchor_sha256": enrolment.anchor_sha256,
        "endorsed_from_us": to_us(enrolment.endorsed_from),
        "endorsed_until_us": to_us(enrolment.endorsed_until),
        "certificate_ids": b"".join(sorted(enrolment.certificate_ids)),
        "device_class": enrolment.device_class,
        "certificate_sha256": record.certificate_sha256,
        "certificate_not_after_us": to_us(record.certificate_not_after),
        "enrolled_us": to_us(record.enrolled_at),
        **last_seen_columns(enrolment.last_seen),
        "progress": encode_progress(enrolment.progress) if enrolment.progress else None,
        "decommission_us": optional_us(record.decommission_at),
        "decommission_told": record.decommission_told,
    }


def _ids(joined: bytes | None) -> frozenset[bytes]:
    """Cut joined SHA-256 digests apart."""
    raw = bytes(joined or b"")
    return frozenset(raw[start : start + 32] for start in range(0, len(raw), 32))


def last_seen_columns(last: LastSeen | None) -> Columns:
    """Return the columns of a clock mark."""
    return {
        "last_clock_ms": last.clock.clock_ms if last else None,
        "last_reset_count": last.clock.reset_count if last else None,
        "last_restart_count": last.clock.restart_count if last else None,
        "last_safe": last.clock.safe if last else None,
        "last_nonce_us": last.issued_us if last else None,
    }


def device_from(row: AnyRow) -> DeviceRecord:
    """Build a device from its row."""
    last = None
    if row.last_nonce_us is not None:
        clock = TpmClock(
            clock_ms=row.last_clock_ms,
            reset_count=row.last_reset_count,
            restart_count=row.last_restart_count,
            safe=bool(row.last_safe),
        )
        last = LastSeen(clock=clock, issued_us=row.last_nonce_us)
    enrolment = Enrolment(
        device=DeviceId(row.device_id),
        ak_public=bytes(row.ak_public),
        ak_name=KeyName(bytes(row.ak_name)),
        anchor_sha256=bytes(row.anchor_sha256),
        endorsed_from=from_us(row.endorsed_from_us),
        endorsed_until=from_us(row.endorsed_until_us),
        certificate_ids=_ids(row.certificate_ids),
        revoked=row.revoked_us is not None,
        last_seen=last,
        device_class=row.device_class,
        progress=decode_progress(row.progress),
    )
    return DeviceRecord(
        enrolment=enrolment,
        hardware_serial=row.hardware_serial,
        idevid_sha256=bytes(row.idevid_sha256),
        certificate_sha256=bytes(row.certificate_sha256),
        certificate_not_after=from_us(row.certificate_not_after_us),
        enrolled_at=from_us(row.enrolled_us),
        revoked_reason=row.revoked_reason,
        seq=row.seq,
        version=row.version,
        decommission_at=optional_moment(row.decommission_us),
        decommission_told=bool(row.decommission_told),
    )


def result_columns(result: StoredResult) -> Columns:
    """Return the columns of a result."""
    return {
        "device_id": result.device,
        "seq": result.seq,
        "at_us": to_us(result.at),
        "expires_us": to_us(result.expires_at),
        "status": result.status,
        "vector": _text(result.vector),
        "reasons": _text(result.reasons),
        "steps": _text(result.steps),
        "allow": result.allow,
        "decision_reasons": _text(result.decision_reasons),
        "policy_id": result.policy_id,
        "reference_set": result.reference_set,
        "evidence_sha256": result.evidence_sha256,
        "ear": result.ear,
    }


def result_from(row: AnyRow) -> StoredResult:
    """Build a result from its row."""
    return StoredResult(
        device=DeviceId(row.device_id),
        seq=row.seq,
        at=from_us(row.at_us),
        expires_at=from_us(row.expires_us),
        status=row.status,
        vector=json.loads(row.vector),
        reasons=tuple(json.loads(row.reasons)),
        steps=tuple(
            (number, name, verdict, detail)
            for number, name, verdict, detail in json.loads(row.steps)
        ),
        allow=bool(row.allow),
        decision_reasons=tuple(json.loads(row.decision_reasons)),
        policy_id=row.policy_id,
        reference_set=row.reference_set,
        evidence_sha256=bytes(row.evidence_sha256),
        ear=row.ear,
    )


def mark_columns(judgement: Judgement) -> Columns:
    """Return what a judgement changes in its device's row, with ``b_`` names for the WHERE."""
    return {
        "b_device": judgement.result.device,
        "b_seq": judgement.result.seq,
        "b_version": judgement.based_on + 1,
        **{f"b_{name}": value for name, value in last_seen_columns(judgement.last_seen).items()},
    }


def evidence_columns(judgement: Judgement) -> Columns:
    """Return what a judgement changes in its device's evidence; ``b_device`` is for the WHERE."""
    columns = first_evidence_columns(judgement.result.device, judgement)
    columns["device"] = columns.pop("device_id")
    return {f"b_{name}": value for name, value in columns.items()}


def first_mark_columns(judgement: Judgement | None) -> Columns:
    """Return what a new device's first judgement, if there was one, leaves in its row."""
    if judgement is None:
        return {"seq": 0, "version": 1}
    columns: Columns = {"seq": judgement.result.seq, "version": judgement.based_on + 1}
    if judgement.last_seen is not None:
        columns |= last_seen_columns(judgement.last_seen)
    if judgement.progress is not None:
        columns["progress"] = encode_progress(judgement.progress)
    return columns


def first_evidence_columns(device: DeviceId, judgement: Judgement | None) -> Columns:
    """Return the evidence row of a new device: empty without a judgement."""
    if judgement is None:
        return {"device_id": device, "message": b"", "progress": None, "log_sha256": None}
    before = judgement.progress_before
    return {
        "device_id": device,
        "message": judgement.evidence,
        "progress": encode_progress(before) if before is not None else None,
        "log_sha256": judgement.log_sha256,
    }


def progress_columns(judgements: Sequence[Judgement]) -> list[Columns]:
    """Return the columns of those judgements that proved more of an IMA list."""
    return [
        {"b_device": item.result.device, "b_progress": encode_progress(item.progress)}
        for item in judgements
        if item.progress is not None
    ]


def token_from(row: AnyRow) -> AccessToken:
    """Build a token from its row."""
    return AccessToken(
        name=row.name, role=row.role, sha256=bytes(row.sha256), created_at=from_us(row.created_us)
    )
