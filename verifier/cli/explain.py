"""``verifier appraise``: the numbered steps of one evidence, stored or given.

A file is judged offline: there is no challenge to hold its nonce against, so the nonce that it
names is taken, and ``--ak`` says whose quote it must be. With ``--reference`` or
``--runtime-policy`` no store is opened (:mod:`verifier.cli.offline_evidence`). A device's last
evidence is shown with the steps that were recorded when it was judged; facts and findings are those
of judging it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import AttestationError
from attestation.identity import DeviceId, device_id
from attestation.limits import MAX_EVIDENCE_BYTES
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import ExpectedNonce
from verifier.appraisal.measured_state import attach_log
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.explained import Explained, document, of_result, of_stored, show
from verifier.cli.offline_evidence import TAKEN_AS_GIVEN, Vouched, library_of_files, vouched
from verifier.cli.reference_values import read_bounded
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader, Store, StoredResult
from verifier.reference_values.model import ReferenceLibrary
from verifier.services.devices import Devices, unknown_device
from verifier.services.reference_values import ReferenceShelf
from verifier.settings import Settings
from verifier.sources import SystemClock, load_anchors, load_appraisal_policy, policy_named

AFFIRMING, NOT_AFFIRMING = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What an evidence is judged by."""

    policy: AppraisalPolicy
    reference: ReferenceLibrary
    anchors: TrustAnchors


def command(
    evidence: Annotated[
        Path | None, typer.Argument(readable=False, help="An evidence message (CMW).")
    ] = None,
    *,
    device: Annotated[str, typer.Option(help="Judge as this device's; alone: its last.")] = "",
    ak: Annotated[
        Path | None, typer.Option(readable=False, help="Attestation key: TPM2B or TPMT_PUBLIC.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(readable=False, help="With --ak: known-good values (TOML); opens no store."),
    ] = None,
    runtime_policy: Annotated[
        list[Path] | None,
        typer.Option(readable=False, help="With --ak: a runtime policy (TOML); opens no store."),
    ] = None,
    policy: Annotated[str, typer.Option(help="Packaged policy's name, or a policy file.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Print the numbered steps.")] = False,
    as_json: Json = False,
) -> None:
    """Judge one evidence file, or show how a device's last evidence was judged."""
    if evidence is None and not device:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "give EVIDENCE or --device ID")
    files = (reference or [], runtime_policy or [])
    if (policy and evidence is None) or (any(files) and (evidence is None or ak is None)):
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID,
            "--policy goes with EVIDENCE; --reference and --runtime-policy with EVIDENCE and --ak",
        )
    if evidence is None:
        told = _recorded(device)
    elif ak is None:
        told = _judge_enrolled(evidence, device, policy)
    else:
        told = _judge_vouched(evidence, vouched(ak, device, SystemClock().now()), policy, files)
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
    terms = _Terms(
        policy=load_appraisal_policy(settings),
        reference=ReferenceShelf(store).current(newest.at),
        anchors=load_anchors(settings),
    )
    try:
        return _appraise(terms, store, kept, _enrolment(store, device), newest.at)
    except AttestationError:
        return None


def _judge_enrolled(path: Path, name: str, policy: str) -> Explained:
    """Judge a file as an enrolled device's."""
    settings = context.settings()
    store = context.store(settings)
    at = SystemClock().now()
    content = read_bounded(path, MAX_EVIDENCE_BYTES)
    enrolment = _enrolment(store, name)
    terms = _Terms(
        policy=_policy(settings, policy),
        reference=ReferenceShelf(store).current(at),
        anchors=load_anchors(settings),
    )
    return of_result(_appraise(terms, store, content, enrolment, at))


def _judge_vouched(
    path: Path, known: Vouched, policy: str, files: tuple[list[Path], list[Path]]
) -> Explained:
    """Judge a file as made with a given key, by the files given or by the store's values."""
    settings = context.settings()
    at = SystemClock().now()
    content = read_bounded(path, MAX_EVIDENCE_BYTES)
    store = None if any(files) else context.store(settings)
    terms = _Terms(
        policy=_policy(settings, policy),
        reference=(
            library_of_files(*files, at) if store is None else ReferenceShelf(store).current(at)
        ),
        anchors=known.anchors,
    )
    return of_result(_appraise(terms, store, content, known.enrolment, at), note=TAKEN_AS_GIVEN)


def _policy(settings: Settings, name: str) -> AppraisalPolicy:
    return policy_named(name) if name else load_appraisal_policy(settings)


def _appraise(
    terms: _Terms, store: Store | None, content: bytes, enrolment: Enrolment, at: datetime
) -> AttestationResult:
    message = decode_evidence(content)
    log = message.firmware_log
    if log is not None and log.content is None and store is not None:
        kept = store.firmware_log(log.digest)
        if kept is not None:
            message = attach_log(message, kept)
    return appraise(
        message,
        challenge=ExpectedNonce(nonce=message.nonce),
        enrolment=enrolment,
        anchors=terms.anchors,
        reference=terms.reference,
        policy=terms.policy,
        at=at,
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
