"""``verifier appraise``: the numbered steps of one evidence, stored or given.

A file is judged offline: there is no challenge to hold its nonce against, so the nonce that it
names is taken, and ``--ak`` says whose quote it must be. A device's last evidence is shown with the
steps that were recorded when it was judged; facts and findings are those of judging it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import AttestationError
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
from verifier.cli.explained import Explained, document, of_result, of_stored, show
from verifier.cli.reference_values import read_bounded
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader, Store, StoredResult
from verifier.services.devices import Devices, unknown_device
from verifier.services.reference_values import ReferenceShelf
from verifier.settings import Settings
from verifier.sources import SystemClock, load_anchors, load_appraisal_policy

AFFIRMING, NOT_AFFIRMING = 0, 1


def command(
    evidence: Annotated[
        Path | None, typer.Argument(readable=False, help="An evidence message (CMW).")
    ] = None,
    *,
    device: Annotated[str, typer.Option(help="Judge as this device's; alone: its last.")] = "",
    ak: Annotated[
        Path | None, typer.Option(readable=False, help="Attestation key: TPM2B or TPMT_PUBLIC.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print the numbered steps.")] = False,
    as_json: Json = False,
) -> None:
    """Judge one evidence file, or show how a device's last evidence was judged."""
    if evidence is None and not device:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "give EVIDENCE or --device ID")
    told = _recorded(device) if evidence is None else _judge(evidence, device, ak)
    if as_json:
        output.say_json(document(told))
    else:
        show(told, explain=explain)
    raise typer.Exit(AFFIRMING if told.status == TrustTier.AFFIRMING else NOT_AFFIRMING)


def _recorded(name: str) -> Explained:
    settings = context.settings()
    store = context.store(settings)
    record, newest = Devices(store).show(name)
    if newest is None:
        raise NotFound(RefusalCode.RESULT_ABSENT, f"device {name} has sent no evidence yet")
    return of_stored(newest, _again(settings, store, record.device, newest))


def _again(
    settings: Settings, store: Store, device: DeviceId, newest: StoredResult
) -> AttestationResult | None:
    """Judge a device's last evidence once more, as of then; None if that cannot be done."""
    kept = store.last_evidence(device)
    if kept is None or hashlib.sha256(kept).digest() != newest.evidence_sha256:
        return None
    try:
        return _appraise(settings, store, kept, _enrolment(store, device), newest.at)
    except AttestationError:
        return None


def _judge(path: Path, name: str, ak: Path | None) -> Explained:
    settings = context.settings()
    store = context.store(settings)
    at = SystemClock().now()
    content = read_bounded(path, MAX_EVIDENCE_BYTES)
    if ak is None:
        enrolment = _enrolment(store, name)
    else:
        anchor = next(iter(load_anchors(settings).fingerprints))
        enrolment = _of_key(ak, name, anchor, at)
    return of_result(_appraise(settings, store, content, enrolment, at))


def _appraise(
    settings: Settings, store: Store, content: bytes, enrolment: Enrolment, at: datetime
) -> AttestationResult:
    message = decode_evidence(content)
    log = message.firmware_log
    if log is not None and log.content is None:
        kept = store.firmware_log(log.digest)
        if kept is not None:
            message = attach_log(message, kept)
    return appraise(
        message,
        challenge=ExpectedNonce(nonce=message.nonce),
        enrolment=enrolment,
        anchors=load_anchors(settings),
        reference=ReferenceShelf(store).current(at),
        policy=load_appraisal_policy(settings),
        at=at,
    )


def _of_key(ak: Path, name: str, anchor: bytes, at: datetime) -> Enrolment:
    """Return an enrolment of whoever has this key."""
    public = parse_public_any(read_bounded(ak, 16 * 1024))
    return Enrolment(
        device=device_id(name) if name else DeviceId("offline"),
        ak_public=public.raw,
        ak_name=public.name,
        anchor_sha256=anchor,
        endorsed_from=at - timedelta(days=1),
        endorsed_until=at + timedelta(days=1),
    )


def _enrolment(store: DeviceReader, name: str) -> Enrolment:
    """Return a device's enrolment; its clock is not held against it."""
    if not name:
        raise RequestRefused(
            RefusalCode.AK_UNKNOWN, "say whose evidence it is: --device ID or --ak FILE"
        )
    record = store.device(device_id(name))
    if record is None:
        raise unknown_device(name)
    before = store.progress_before(record.device)
    return replace(record.enrolment, last_seen=None, progress=before)
