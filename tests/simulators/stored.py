"""Records for store tests, made of nothing but numbers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from attestation.algorithms import HashAlgorithm
from attestation.identity import DeviceId, KeyName
from attestation.logs.ima.progress import RuntimeProgress
from attestation.tpm.clock import TpmClock
from device_agent.ports import KeyRole
from tests.simulators.soft_device import soft_key
from verifier.appraisal.enrolment import Enrolment, LastSeen
from verifier.ports import (
    DeviceRecord,
    DocumentKind,
    Judgement,
    ReferenceDocument,
    StoredResult,
    UnitOfWork,
)
from verifier.ports.credentials import IssuedCertificate
from verifier.reference_values.model import ReferenceSet
from verifier.services.issue import issued_entry

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ISSUER = hashlib.sha256(b"issuing CA").digest()
_KEY = soft_key("p256", KeyRole.IAK)


def a_device(name: str = "sn-0001", version: int = 0) -> DeviceRecord:
    enrolment = Enrolment(
        device=DeviceId(name),
        ak_public=_KEY.public_area,
        ak_name=KeyName(_KEY.name),
        anchor_sha256=bytes(32),
        endorsed_from=AT - timedelta(days=1),
        endorsed_until=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        certificate_ids=frozenset({b"\x01" * 32, b"\xfe" * 32}),
    )
    return DeviceRecord(
        enrolment=enrolment,
        hardware_serial=name.upper(),
        idevid_sha256=hashlib.sha256(name.encode()).digest(),
        certificate_sha256=hashlib.sha256(name.encode() + bytes([version])).digest(),
        certificate_not_after=AT + timedelta(days=90),
        enrolled_at=AT,
        version=version,
    )


def a_certificate(record: DeviceRecord) -> IssuedCertificate:
    return IssuedCertificate(
        sha256=record.certificate_sha256,
        device=record.device,
        serial=2**128 + int.from_bytes(record.certificate_sha256[:15]),
        der=b"der",
        not_before=AT,
        not_after=record.certificate_not_after,
        holder=f"spiffe://fleet.example/device/{record.device}",
        profile="ldevid",
        issuer_sha256=ISSUER,
        spki_sha256=hashlib.sha256(b"key" + record.certificate_sha256).digest(),
    )


def put_enrolment(work: UnitOfWork, record: DeviceRecord) -> None:
    """Write a device with its certificate, as an enrolment does."""
    certificate = a_certificate(record)
    work.enrol(record)
    work.issue(certificate, issued_entry(certificate), AT)
    work.supersede(certificate, AT, AT)


def a_result(name: str = "sn-0001", seq: int = 1, at: datetime = AT) -> StoredResult:
    return StoredResult(
        device=DeviceId(name),
        seq=seq,
        at=at,
        expires_at=at + timedelta(minutes=5),
        status=96,
        vector={"executables": 96},
        reasons=("log-replay-mismatch: PCR 4 … differs",),
        steps=((1, "signature", "passed", "fine"), (4, "measured state", "failed", "PCR 4")),
        allow=False,
        decision_reasons=("posture-contraindicated: no",),
        policy_id="development/1",
        reference_set="",
        evidence_sha256=bytes(32),
        ear="e.a.r",
    )


def a_judgement(
    name: str = "sn-0001",
    seq: int = 1,
    based_on: int = 1,
    *,
    fresh: bool = True,
    progress: RuntimeProgress | None = None,
) -> Judgement:
    clock = TpmClock(clock_ms=2**40 + seq, reset_count=7, restart_count=1, safe=True)
    return Judgement(
        result=a_result(name, seq),
        based_on=based_on,
        last_seen=LastSeen(clock=clock, issued_us=1_700_000_000_000_000 + seq) if fresh else None,
        evidence=b"evidence %d" % seq,
        firmware_log=(hashlib.sha256(b"log").digest(), b"log"),
        progress=progress,
    )


def a_progress(entries: int = 17, reset_count: int = 7) -> RuntimeProgress:
    return RuntimeProgress(
        reset_count=reset_count,
        entries=entries,
        pcrs={
            HashAlgorithm.SHA256: {10: bytes(range(32)), 11: bytes(32)},
            HashAlgorithm.SHA1: {10: bytes(20)},
        },
        padded=False,
        policy="web:sha256:00",
        counts={"ima-file-unknown": 2},
        samples={"ima-file-unknown": ("/usr/bin/ä", "/bin/b")},
    )


def a_reference_set(name: str = "golden", version: int = 1) -> ReferenceSet:
    return ReferenceSet(
        name=name,
        version=version,
        created=AT.replace(microsecond=0),
        pcrs={HashAlgorithm.SHA256: {4: frozenset({bytes(32)})}},
    )


def a_document(kind: DocumentKind, name: str) -> ReferenceDocument:
    return ReferenceDocument(kind=kind, name=name, version=1, created_at=AT, document="text\n")
