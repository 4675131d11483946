"""The bench: one evidence is appraised, in seven numbered steps, by one pure function.

==== ================= ============================ ==========================================
step file              proves                       type
==== ================= ============================ ==========================================
1    signature.py      a TPM made this quote with   Evidence → AuthenticQuote
                       this attestation key
2    binding.py        the key is this device's,    AuthenticQuote → BoundQuote
                       and is still endorsed
3    freshness.py      it answers our nonce, now    BoundQuote → FreshQuote
4    measured_state.py what the PCRs hold and which FreshQuote → MeasuredState
                       events led there
5    comparison.py     how that stands against      MeasuredState → Comparison
                       known-good devices
6    policy.py         what it is worth             Comparison → findings
7    trust_vector.py   the conclusion               findings → AttestationResult
==== ================= ============================ ==========================================

Inside a step: raise. Here: record. A ``VerificationError`` means that the device's proof does not
hold; it becomes part of the result, which is then *contraindicated*. An ``InputError`` (malformed
bytes) and any fault of our own leave as exceptions, so that a broken verifier never accuses a
device and a lying device never looks like an error.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.boot.facts import BootFacts
from attestation.errors import VerificationError
from attestation.evidence import Evidence
from attestation.identity import DeviceId
from attestation.logs.ima.progress import RuntimeProgress
from attestation.result import (
    AttestationResult,
    Claim,
    Finding,
    Step,
    StepVerdict,
    TrustVector,
)
from verifier.appraisal.binding import bind
from verifier.appraisal.comparison import Comparison, compare
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import Challenge, FreshQuote, prove_fresh
from verifier.appraisal.judgement import remember, remembered
from verifier.appraisal.measured_state import MeasuredState, measure
from verifier.appraisal.policy import evaluate
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import Judgement, ReplayCache
from verifier.appraisal.signature import authenticate
from verifier.appraisal.trust_vector import IDENTITY_RECOGNISED, failed_proof, vector_of
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.reference_values.model import ReferenceLibrary

STEPS: Final = (
    "signature",
    "binding",
    "freshness",
    "measured state",
    "comparison",
    "policy",
    "trust vector",
)
"""Names of the steps, in order; step 1 is the first."""


def appraise(
    evidence: Evidence,
    *,
    challenge: Challenge,
    enrolment: Enrolment,
    anchors: TrustAnchors,
    reference: ReferenceLibrary,
    policy: AppraisalPolicy,
    at: datetime,
    replays: ReplayCache | None = None,
) -> AttestationResult:
    """Judge one evidence of one enrolled device.

    Args:
        evidence: As decoded from the wire; believed by nobody yet.
        challenge: Who judges the nonce: a ``NonceAuthority``, or offline an ``ExpectedNonce``.
        enrolment: What was accepted when the device enrolled, and its last clock.
        anchors: The manufacturers trusted now.
        reference: The reference sets that may apply to this device.
        policy: What is asked and what each observation is worth.
        at: The moment of judgement (aware).
        replays: Remembers replayed logs between calls; the only argument that changes.

    Returns:
        The result. Its nonce, clock and firmware version are set only where they were proven.

    Raises:
        InputError: If the evidence is malformed, or names a log that we do not have.
    """
    record = _Record(evidence, enrolment, policy, at)
    try:
        authentic = authenticate(evidence, enrolment.ak)
        record.authentic(authentic.scheme_hash)

        bound = bind(authentic, enrolment, anchors, at)
        record.bound(bound.device)

        fresh = prove_fresh(bound, challenge, enrolment.last_seen, at)
        record.proven_fresh(fresh)

        known = remembered(fresh, policy, reference, replays)
        if known is not None:
            return record.repeat(known)

        state = measure(fresh, policy, replays, reference=reference, progress=enrolment.progress)
        comparison = compare(state, reference, policy)
        record.measured(comparison.state)
        record.compared(comparison)

        findings = evaluate(comparison, policy)
        record.passed(f"{policy.id}: {len(findings)} findings")
    except VerificationError as error:
        return record.conclude(record.refused(error))
    result = record.conclude(findings)
    remember(result, comparison, policy, reference)
    return result


class _Record:
    """What the bench writes down while it works through the steps."""

    __slots__ = (
        "_at",
        "_enrolment",
        "_evidence",
        "_fresh",
        "_identity",
        "_matched",
        "_policy",
        "_recognised",
        "_state",
        "_steps",
    )

    def __init__(
        self, evidence: Evidence, enrolment: Enrolment, policy: AppraisalPolicy, at: datetime
    ) -> None:
        self._evidence = evidence
        self._enrolment = enrolment
        self._policy = policy
        self._at = at
        self._steps: list[Step] = []
        self._fresh: FreshQuote | None = None
        self._recognised: tuple[Finding, ...] = ()
        self._identity: tuple[Finding, ...] = ()
        self._matched: str | None = None
        self._state: MeasuredState | None = None

    def authentic(self, scheme: HashAlgorithm) -> None:
        """Write down step 1."""
        self._steps.append(_AUTHENTIC[scheme])

    def bound(self, device: DeviceId) -> None:
        """Write down step 2."""
        step, self._recognised = _recognised(device)
        self._steps.append(step)

    def passed(self, detail: str, verdict: StepVerdict = StepVerdict.PASSED) -> None:
        """Write down the next step."""
        self._steps.append(_step(len(self._steps) + 1, verdict, detail))

    def proven_fresh(self, fresh: FreshQuote) -> None:
        """Steps 1 to 3 hold: this is the device, and it speaks now."""
        self._fresh = fresh
        self._steps.append(_answered(fresh.bound.authentic.attest.clock.reset_count))
        self._identity = self._recognised

    def measured(self, state: MeasuredState) -> None:
        """Write down step 4: its faults are findings, the other PCRs go on."""
        self._state = state
        deciding = [fault for fault in state.faults if fault.decides]
        if deciding:
            more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
            self.passed(f"{deciding[0].reason}{more}", StepVerdict.FAILED)
        else:
            self.passed(
                f"{self._policy.selection_text} proven"
                + ("; the firmware log explains them" if state.log is not None else "; no log sent")
            )

    def compared(self, comparison: Comparison) -> None:
        """Write down step 5."""
        self._matched = comparison.matched
        if comparison.matched is not None:
            self.passed(f"all compared PCRs are those of {comparison.matched!r}")
            return
        if comparison.differing:
            first = next(iter(comparison.differing.values()))
            self.passed(first.reason, StepVerdict.FAILED)
        else:
            self.passed("the policy compares no PCR with reference values", StepVerdict.SKIPPED)

    def refused(self, error: VerificationError) -> tuple[Finding, ...]:
        """Write down the step that raised; the steps after it are skipped."""
        number = len(self._steps) + 1
        self.passed(error.describe(), StepVerdict.FAILED)
        for _ in range(number + 1, len(STEPS)):
            self.passed(f"not reached: step {number} failed", StepVerdict.SKIPPED)
        return failed_proof(error, number)

    def conclude(self, findings: tuple[Finding, ...]) -> AttestationResult:
        """Step 7: fold the findings into the vector; the status follows from it."""
        told = self._identity + findings
        vector, status = vector_of(told)
        self.passed(status)
        state = self._state
        return self._result(
            told,
            vector,
            self._matched,
            state.boot if state is not None else None,
            state.runtime.progress if state is not None and state.runtime is not None else None,
        )

    def repeat(self, known: Judgement) -> AttestationResult:
        """Steps 4 to 7 as they went before with the same state."""
        self._steps += known.steps
        told = self._identity + known.findings
        return self._result(told, known.vector, known.reference_set, known.boot, None)

    def _result(
        self,
        findings: tuple[Finding, ...],
        vector: TrustVector,
        matched: str | None,
        boot: BootFacts | None,
        progress: RuntimeProgress | None,
    ) -> AttestationResult:
        attest = self._fresh.bound.authentic.attest if self._fresh is not None else None
        return AttestationResult(
            device=self._enrolment.device,
            vector=vector,
            findings=findings,
            steps=tuple(self._steps),
            policy_id=self._policy.id,
            at=self._at,
            evidence_digest=self._evidence.digest,
            nonce=self._fresh.opened.nonce if self._fresh is not None else b"",
            clock=attest.clock if attest is not None else None,
            firmware_version=attest.firmware_version if attest is not None else None,
            reference_set=matched,
            boot=boot,
            progress=progress,
        )


@lru_cache(maxsize=4096)
def _step(number: int, verdict: StepVerdict, detail: str) -> Step:
    """Return one line of the record; most lines repeat from device to device."""
    return Step(number=number, name=STEPS[number - 1], verdict=verdict, detail=detail)


_AUTHENTIC: Final = {
    scheme: _step(1, StepVerdict.PASSED, f"{scheme.label} quote by the enrolled attestation key")
    for scheme in HashAlgorithm
}


@lru_cache(maxsize=16 * 1024)
def _recognised(device: DeviceId) -> tuple[Step, tuple[Finding, ...]]:
    """Return step 2 and the finding that tells whose quote it was, once it is proven fresh."""
    step = Step(
        number=2,
        name=STEPS[1],
        verdict=StepVerdict.PASSED,
        detail=f"the key is {device}'s and its endorsement holds",
    )
    finding = Finding(
        code="identity-recognised",
        claim=Claim.INSTANCE_IDENTITY,
        value=IDENTITY_RECOGNISED,
        reason=f"this is {device}, endorsed by a trusted manufacturer",
        step=2,
    )
    return step, (finding,)


@lru_cache(maxsize=1024)
def _answered(resets: int) -> Step:
    return _step(3, StepVerdict.PASSED, f"answers our nonce; the TPM was reset {resets} times")
