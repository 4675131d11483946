"""Step 6, policy: what was measured and compared becomes findings, by the policy's numbers.

An :class:`AppraisalPolicy` is a value (:mod:`verifier.appraisal.policy_model`) loaded from TOML
(:mod:`verifier.appraisal.policy_file`). Every selected PCR has exactly one rule; an empty policy
cannot be made.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.refusals import RefusalCode
from attestation.result import Finding
from verifier.appraisal.agent import judge_agent
from verifier.appraisal.boot_rules import judge_boot
from verifier.appraisal.comparison import Comparison, Kind
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.measured_state import MeasuredState, start_value
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.policy_model import (
    AppraisalPolicy,
    Coverage,
    Match,
    PcrGroup,
    PcrRule,
)
from verifier.appraisal.runtime import judge_runtime

__all__ = ["AppraisalPolicy", "Coverage", "Match", "PcrRule", "evaluate", "load_policy"]

MEASURED_STEP: Final = 4
COMPARED_STEP: Final = 5

_DIFFERENCE_CODES: Final = {
    Kind.UNKNOWN: RefusalCode.REFERENCE_MISMATCH,
    Kind.UNLISTED: RefusalCode.REFERENCE_MISSING,
    Kind.RESTING: RefusalCode.REFERENCE_NOT_IN_FORCE,
}

REFERENCE_MATCHED: Final = "reference-matched"
"""Finding code: a PCR holds a reference value."""

WEAK_BANK: Final = "weak-bank"
"""Finding code: PCRs agree in the SHA-1 bank, which affirms nothing."""

LOG_MATCHED: Final = "log-matched"
"""Finding code: a PCR holds what its log says; the policy asks no reference value of it."""

PCR_UNTOUCHED: Final = "pcr-untouched"
"""Finding code: nothing was measured into a PCR that the policy holds against its log alone."""

_FIRMWARE: Final = "as the firmware log says"
_KERNEL: Final = "as the IMA list says"
_AGENT: Final = "as the AI agent's log says"
_UNTOUCHED: Final = "still at its start value: nothing was measured into it, which affirms nothing"


def evaluate(comparison: Comparison, policy: AppraisalPolicy) -> tuple[Finding, ...]:
    """Turn what was measured and compared into findings, by the policy's numbers.

    A PCR that its log contradicts gets that finding only: what it is compared with no longer
    matters. PCRs that agree are told together, one finding for each rule and bank.

    Args:
        comparison: From step 5.
        policy: The policy whose selection the comparison was made for.

    Returns:
        Findings of steps 4 and 5, in that order.
    """
    faults = comparison.state.faults
    findings = [_fault(fault, policy) for fault in faults]
    accused = {(fault.bank, fault.pcr) for fault in faults if fault.decides}
    for group in policy.groups:
        if group.rule.match is Match.LOG:
            findings += _judge_by_log(comparison.state, group, accused)
        elif comparison.differing or accused:
            findings += _judge(comparison, group, accused)
        else:
            findings.append(_agreed(group, _in_set(comparison), group.names))
    if policy.unreviewed and comparison.to_review:
        findings += _unreviewed(policy, comparison.nearest, comparison.to_review)
    return (*findings, *_asked_beyond_pcrs(comparison.state, policy))


def _asked_beyond_pcrs(state: MeasuredState, policy: AppraisalPolicy) -> Iterator[Finding]:
    """Yield the findings of the rules about boot, running system and agent."""
    if policy.boot is not None:
        if state.log is not None and state.boot is not None:
            yield from state.log.boot_findings(state.boot, policy.boot)
        else:
            yield from judge_boot(state.boot, policy.boot)
    if policy.runtime is not None and state.runtime is not None:
        yield from judge_runtime(state.runtime, policy.runtime, policy.by_log)
    if policy.agent is not None and state.agent is not None:
        yield from judge_agent(state.agent, policy.agent)


def _fault(fault: PcrFault, policy: AppraisalPolicy) -> Finding:
    rule = policy.by_pcr[fault.pcr]
    return Finding(
        code=fault.code,
        claim=rule.claim,
        value=rule.contradicted if fault.decides else 0,
        reason=fault.reason,
        step=MEASURED_STEP,
        pcr=fault.pcr,
        bank=fault.bank.label,
        rule=policy.rule_names[fault.pcr],
    )


def _judge(
    comparison: Comparison, group: PcrGroup, accused: set[tuple[HashAlgorithm, int]]
) -> list[Finding]:
    """Judge the PCRs of one rule in one bank, one by one."""
    rule, bank = group.rule, group.bank
    agreed: list[int] = []
    findings = []
    for index in rule.indices:
        if (bank, index) in accused:
            continue
        difference = comparison.differing.get((bank, index))
        if difference is None:
            agreed.append(index)
            continue
        findings.append(
            Finding(
                code=_DIFFERENCE_CODES[difference.kind],
                claim=rule.claim,
                value=rule.missing if difference.kind is Kind.UNLISTED else rule.unknown,
                reason=difference.reason,
                step=COMPARED_STEP,
                pcr=index,
                bank=group.label,
                rule=group.key,
            )
        )
    if agreed:
        findings.append(_agreed(group, _in_set(comparison), _names(agreed)))
    return findings


def _judge_by_log(
    state: MeasuredState, group: PcrGroup, accused: set[tuple[HashAlgorithm, int]]
) -> list[Finding]:
    """Say which log each PCR of one rule in one bank agrees with.

    Others extend a PCR that no log explains (``coverage = "reported"``); it has been told already
    and there is no value to rest on, so nothing affirms it.
    """
    agreed: dict[str, list[int]] = {}
    for index in group.rule.indices:
        if (group.bank, index) not in accused:
            words = _teller(state, group.bank, index)
            if words is not None:
                agreed.setdefault(words, []).append(index)
    return [_agreed(group, words, _names(indices)) for words, indices in agreed.items()]


def _teller(state: MeasuredState, bank: HashAlgorithm, index: int) -> str | None:
    """Return which log leads to a PCR that no fault decides on; None if none does."""
    key, runtime = (bank, index), state.runtime
    if runtime is not None and key in runtime.explained:
        return _KERNEL
    if state.agent is not None and key in state.agent.explained:
        return _AGENT
    heard = runtime is None or key not in runtime.unheard
    if heard and state.log is not None and index in state.log.replayed.pcrs.get(bank, {}):
        return _FIRMWARE
    return _UNTOUCHED if state.values[bank][index] == start_value(bank, index) else None


def _names(indices: list[int]) -> str:
    return ", ".join(str(index) for index in indices)


def _in_set(comparison: Comparison) -> str:
    return f"as in reference set {comparison.nearest}"


@lru_cache(maxsize=1024)
def _unreviewed_group(
    group: PcrGroup, reference: str | None, to_review: frozenset[int], value: int
) -> Finding | None:
    """Return the finding for one rule whose reference values nobody has reviewed, if so."""
    waiting = ", ".join(str(index) for index in group.rule.indices if index in to_review)
    if not waiting or group.rule.match is Match.LOG:
        return None
    return Finding(
        code=RefusalCode.REFERENCE_NOT_REVIEWED,
        claim=group.rule.claim,
        value=value,
        reason=f"PCR {waiting} ({group.label}): nobody has reviewed what reference set "
        f"{reference!r} learnt of it. Look at it with verifier reference-values show, then mark "
        "it with review",
        step=COMPARED_STEP,
        bank=group.label,
        rule="reference.unreviewed",
    )


def _unreviewed(
    policy: AppraisalPolicy, reference: str | None, to_review: frozenset[int]
) -> list[Finding]:
    found = [
        _unreviewed_group(group, reference, to_review, policy.unreviewed) for group in policy.groups
    ]
    return [one for one in found if one is not None]


@lru_cache(maxsize=1024)
def _agreed(group: PcrGroup, words: str, names: str) -> Finding:
    """Return the finding for PCRs that agree; the same for every device of a kind, so kept."""
    rule = group.rule
    untouched = words == _UNTOUCHED
    weak = group.bank is HashAlgorithm.SHA1 and not untouched
    agreed = LOG_MATCHED if rule.match is Match.LOG else REFERENCE_MATCHED
    return Finding(
        code=PCR_UNTOUCHED if untouched else WEAK_BANK if weak else agreed,
        claim=rule.claim,
        value=0 if weak or untouched else rule.known,
        reason=f"PCR {names} ({group.label}): {words}"
        + (", but SHA-1 is weak: this bank can accuse and cannot affirm" if weak else ""),
        step=COMPARED_STEP,
        bank=group.label,
        rule=group.key,
    )
