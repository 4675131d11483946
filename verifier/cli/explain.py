"""``verifier appraise``: the numbered steps of one evidence, stored or given.

A file is judged offline: there is no challenge to hold its nonce against, so the nonce that it
names is taken, and ``--ak`` says whose quote it must be. A device's last evidence is shown with the
steps that were recorded when it was judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from attestation.identity import DeviceId, device_id
from attestation.limits import MAX_EVIDENCE_BYTES
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier
from attestation.tpm.public import parse_public_any
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import ExpectedNonce
from verifier.appraisal.measured_state import attach_log
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader, StoredResult
from verifier.services.devices import Devices, unknown_device
from verifier.services.reference_values import ReferenceShelf
from verifier.sources import SystemClock, load_anchors, load_appraisal_policy

AFFIRMING, NOT_AFFIRMING = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One judged evidence, wherever it came from."""

    device: str
    at: datetime
    status: int
    vector: dict[str, int]
    steps: tuple[tuple[int, str, str, str], ...]
    reasons: tuple[str, ...]
    policy_id: str
    reference_set: str


def command(
    evidence: Annotated[Path | None, typer.Argument(help="An evidence message (CMW).")] = None,
    *,
    device: Annotated[str, typer.Option(help="Judge as this device's; alone: its last.")] = "",
    ak: Annotated[Path | None, typer.Option(help="Attestation key: TPM2B or TPMT_PUBLIC.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print the numbered steps.")] = False,
    as_json: Json = False,
) -> None:
    """Judge one evidence file, or show how a device's last evidence was judged."""
    if evidence is None and not device:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "give EVIDENCE or --device ID")
    told = _recorded(device) if evidence is None else _judge(evidence, device, ak)
    if as_json:
        output.say_json(_document(told))
    else:
        _print(told, explain=explain)
    raise typer.Exit(AFFIRMING if told.status == TrustTier.AFFIRMING else NOT_AFFIRMING)


def _recorded(name: str) -> Explained:
    _, newest = Devices(context.store(context.settings())).show(name)
    if newest is None:
        raise NotFound(RefusalCode.RESULT_ABSENT, f"device {name} has sent no evidence yet")
    return _of_stored(newest)


def _of_stored(newest: StoredResult) -> Explained:
    return Explained(
        device=newest.device,
        at=newest.at,
        status=newest.status,
        vector=dict(newest.vector),
        steps=newest.steps,
        reasons=newest.reasons,
        policy_id=newest.policy_id,
        reference_set=newest.reference_set,
    )


def _judge(path: Path, name: str, ak: Path | None) -> Explained:
    settings = context.settings()
    store = context.store(settings)
    at = SystemClock().now()
    message = decode_evidence(read_bounded(path, MAX_EVIDENCE_BYTES))
    log = message.firmware_log
    if log is not None and log.content is None:
        content = store.firmware_log(log.digest)
        if content is not None:
            message = attach_log(message, content)
    anchors = load_anchors(settings)
    anchor = next(iter(anchors.fingerprints))
    result = appraise(
        message,
        challenge=ExpectedNonce(nonce=message.nonce),
        enrolment=_enrolment(store, name, ak, anchor, at),
        anchors=anchors,
        reference=ReferenceShelf(store).current(at),
        policy=load_appraisal_policy(settings),
        at=at,
    )
    return _of_result(result)


def _enrolment(
    store: DeviceReader, name: str, ak: Path | None, anchor: bytes, at: datetime
) -> Enrolment:
    """Return whose evidence it is to be: a device's (its clock not held against it) or a key's."""
    if ak is not None:
        public = parse_public_any(read_bounded(ak, 16 * 1024))
        return Enrolment(
            device=device_id(name) if name else DeviceId("offline"),
            ak_public=public.raw,
            ak_name=public.name,
            anchor_sha256=anchor,
            endorsed_from=at - timedelta(days=1),
            endorsed_until=at + timedelta(days=1),
        )
    if not name:
        raise RequestRefused(
            RefusalCode.AK_UNKNOWN, "say whose evidence it is: --device ID or --ak FILE"
        )
    record = store.device(device_id(name))
    if record is None:
        raise unknown_device(name)
    known = record.enrolment
    return Enrolment(
        device=known.device,
        ak_public=known.ak_public,
        ak_name=known.ak_name,
        anchor_sha256=known.anchor_sha256,
        endorsed_from=known.endorsed_from,
        endorsed_until=known.endorsed_until,
        revoked=known.revoked,
        device_class=known.device_class,
    )


def _of_result(result: AttestationResult) -> Explained:
    return Explained(
        device=result.device,
        at=result.at,
        status=int(result.status),
        vector=result.vector.as_claims(),
        steps=tuple(
            (step.number, step.name, step.verdict.value, step.detail) for step in result.steps
        ),
        reasons=result.reasons,
        policy_id=result.policy_id,
        reference_set=result.reference_set or "",
    )


def _document(told: Explained) -> dict[str, object]:
    return {
        "device_id": told.device,
        "at": told.at.isoformat(),
        "status": TrustTier(told.status).label,
        "vector": told.vector,
        "policy_id": told.policy_id,
        "reference_set": told.reference_set,
        "steps": [
            dict(zip(("number", "name", "verdict", "detail"), step, strict=True))
            for step in told.steps
        ],
        "reasons": list(told.reasons),
    }


def _print(told: Explained, *, explain: bool) -> None:
    output.say(f"device {told.device}, judged {told.at.isoformat()}, policy {told.policy_id}")
    if explain:
        for number, name, verdict, detail in told.steps:
            output.say(f"{number} {name:<15} {verdict:<8} {detail}")
    for reason in told.reasons:
        output.say(f"  - {reason}")
    claims = ", ".join(f"{claim}={value}" for claim, value in told.vector.items())
    output.say(f"status: {TrustTier(told.status).label} ({claims or 'no claims'})")
