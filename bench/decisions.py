"""Decisions by the embedded Rego engine with the packaged policy, on one thread.

Of questions that the policy was never asked, each at another second; and of one device after
another with the same status in the same second, whose answer is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

from attestation.wire.evidence_codec import decode_evidence
from bench.inputs import ROOT, largest_firmware_log, machine
from bench.measure import Bench, Line, held_to, seconds_per_call
from verifier.appraisal.appraise import appraise
from verifier.decision.decide import DeviceFacts, decide, pdp_document
from verifier.policy_engine.rego import RegoEngine

BUDGET_PER_S = 2_000.0


def decisions() -> Iterator[Line]:
    """Time making the PDP document of an affirming device and deciding about it."""
    subject = machine(largest_firmware_log(trusted=True))
    at = datetime.now(UTC)
    result = appraise(
        decode_evidence(subject.evidence(at, whole_log=True)),
        challenge=subject.nonces,
        enrolment=subject.enrolment,
        anchors=subject.anchors,
        reference=subject.reference,
        policy=subject.policy,
        at=at,
    )
    facts = DeviceFacts(
        device=subject.enrolment.device,
        revoked=False,
        anchor_sha256=subject.enrolment.anchor_sha256,
        hardware_serial=subject.tpm.serial,
        ak_name=subject.enrolment.ak_name,
        spiffe_id=f"spiffe://attestation.internal/device/{subject.enrolment.device}",
    )
    rego = (ROOT / "verifier" / "policies" / "device_decision.rego").read_text(encoding="utf-8")
    engine = RegoEngine(rego)

    numbers = count(1)

    def one(moment: datetime) -> bool:
        until = moment + timedelta(minutes=5)
        document = pdp_document(facts, result, at, expires_at=until, seq=next(numbers))
        return decide(engine, document, at).allow

    def new() -> bool:
        return one(at + timedelta(seconds=next(numbers)))

    if not new():
        raise RuntimeError("the packaged policy denies an affirming device")
    yield held_to("decisions_per_s", 1 / seconds_per_call(new), "1/s", BUDGET_PER_S, "≥")
    yield Line(
        name="decisions_per_s_alike", value=1 / seconds_per_call(lambda: one(at)), unit="1/s"
    )


BENCHES = (Bench(names=("decisions_per_s", "decisions_per_s_alike"), run=decisions),)
