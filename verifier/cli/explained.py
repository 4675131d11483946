"""One judged evidence as words and as JSON: steps, facts, and the rule that decided each claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from attestation.boot.facts import BootFacts
from attestation.logs.ima.progress import RuntimeProgress
from attestation.result import AttestationResult, Finding, TrustTier, tier_of
from verifier.cli import output
from verifier.cli.boot_facts import fact_rows, facts_object, remark_rows
from verifier.ports import StoredResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One judged evidence, wherever it came from.

    Attributes:
        device: Whose.
        at: When it was judged.
        status: AR4SI tier number.
        vector: The claims.
        steps: (number, name, verdict, detail) of each appraisal step.
        reasons: ``code: reason`` lines, worst first.
        policy_id: The appraisal policy.
        reference_set: The reference set that matched; empty if none did.
        findings: Everything found; None if only the stored result is known.
        boot: What the firmware log proves; None if nothing.
        progress: How far the IMA list is proven; None if there is none.
        note: What a reader must know of all this; empty for nothing.
    """

    device: str
    at: datetime
    status: int
    vector: Mapping[str, int]
    steps: tuple[tuple[int, str, str, str], ...]
    reasons: tuple[str, ...]
    policy_id: str
    reference_set: str
    findings: tuple[Finding, ...] | None = None
    boot: BootFacts | None = None
    progress: RuntimeProgress | None = None
    note: str = ""


def of_result(result: AttestationResult, *, note: str = "") -> Explained:
    """Explain a result that was just made, with what a reader must know of it."""
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
        findings=result.findings,
        boot=result.boot,
        progress=result.progress,
        note=note,
    )


def of_stored(stored: StoredResult, again: AttestationResult | None) -> Explained:
    """Explain a stored result; findings and facts are those of judging its evidence again.

    Args:
        stored: The result as it was recorded.
        again: The same evidence judged again; None if that cannot be done. Where it comes to
            another conclusion its findings explain nothing, and are left out.
    """
    same = (
        again is not None
        and int(again.status) == stored.status
        and again.reasons == tuple(stored.reasons)
    )
    note = (
        ""
        if same
        else "facts and findings are not told: the evidence cannot be judged again"
        if again is None
        else "facts and findings are not told: policy or reference values have changed since, and "
        f"the same evidence would be {again.status.label} now"
    )
    return Explained(
        device=stored.device,
        at=stored.at,
        status=stored.status,
        vector=dict(stored.vector),
        steps=stored.steps,
        reasons=stored.reasons,
        policy_id=stored.policy_id,
        reference_set=stored.reference_set,
        findings=again.findings if same and again is not None else None,
        boot=again.boot if same and again is not None else None,
        progress=again.progress if same and again is not None else None,
        note=note,
    )


def decided(told: Explained) -> Iterator[Finding]:
    """Yield for each claim the finding whose value it has; the first one of that value."""
    for claim, value in told.vector.items():
        for finding in told.findings or ():
            if finding.claim == claim and finding.value == value:
                yield finding
                break


def document(told: Explained) -> dict[str, object]:
    """Return the JSON document of ``verifier appraise --json``; docs/policies.md has its shape."""
    findings = told.findings
    return {
        "device_id": told.device,
        "at": told.at.isoformat(),
        "status": TrustTier(told.status).label,
        "vector": dict(told.vector),
        "policy_id": told.policy_id,
        "reference_set": told.reference_set,
        "steps": [
            dict(zip(("number", "name", "verdict", "detail"), step, strict=True))
            for step in told.steps
        ],
        "reasons": list(told.reasons),
        "decided": {one.claim.value: _decision(one) for one in decided(told)},
        "findings": None if findings is None else [_finding(one) for one in findings],
        "boot_facts": None if told.boot is None else facts_object(told.boot),
        "ima": None
        if told.progress is None
        else {"entries": told.progress.entries, "counts": dict(told.progress.counts)},
        "note": told.note,
    }


def _decision(one: Finding) -> dict[str, object]:
    return {"value": one.value, "rule": one.rule, "code": str(one.code), "reason": one.reason}


def _finding(one: Finding) -> dict[str, object]:
    return {
        "code": str(one.code),
        "claim": one.claim.value,
        "value": one.value,
        "tier": tier_of(one.value).label,
        "rule": one.rule,
        "step": one.step,
        "pcr": one.pcr,
        "bank": one.bank,
        "reason": one.reason,
    }


def show(told: Explained, *, explain: bool) -> None:
    """Print it: the conclusion, and with ``explain`` how it was come to."""
    output.say(f"device {told.device}, judged {told.at.isoformat()}, policy {told.policy_id}")
    if explain:
        for line in _explanation(told):
            output.say(line)
    for reason in told.reasons:
        output.say(f"  - {reason}")
    claims = ", ".join(f"{claim}={value}" for claim, value in told.vector.items())
    output.say(f"status: {TrustTier(told.status).label} ({claims or 'no claims'})")


def _explanation(told: Explained) -> Iterator[str]:
    for number, name, verdict, detail in told.steps:
        yield f"{number} {name:<15} {verdict:<8} {detail}"
    yield from _facts(told)
    if told.findings is not None:
        yield from _rules(told)
    if told.note:
        yield told.note


def _facts(told: Explained) -> Iterator[str]:
    """Yield what was proven of boot and running system."""
    if told.boot is not None:
        yield "boot facts, each with the event that proves it:"
        for fact, proofs, value in fact_rows(told.boot):
            yield f"  {fact}: {value}" + (f" [{proofs}]" if proofs else "")
        for name, remark in remark_rows(told.boot):
            yield f"  {name}: {remark}"
    if told.progress is not None:
        counts = ", ".join(f"{code} {count}" for code, count in told.progress.counts.items())
        more = f" ({counts})" if counts else ""
        yield f"running system: {told.progress.entries} entries of the IMA list are proven{more}"


def _rules(told: Explained) -> Iterator[str]:
    """Yield the rules that are met, and the one that decided each claim."""
    others = [one for one in told.findings or () if one.rule and one.value == 0]
    if others:
        yield "rules that accuse nobody:"
    for one in others:
        yield f"  {one.rule}: {one.code}: {one.reason}"
    yield "what decided each claim:"
    for one in decided(told):
        by = one.rule or f"step {one.step}"
        tier = tier_of(one.value).label
        yield f"  {one.claim.value} = {one.value} ({tier}) by {by}: {one.code}: {one.reason}"
