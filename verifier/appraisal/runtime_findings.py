"""Step 5 for the running system: what the proven entries are worth."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from attestation.refusals import RefusalCode
from attestation.result import Finding
from verifier.appraisal.runtime_ledger import AGGREGATE_NOT_QUOTED, told, unquoted_of
from verifier.appraisal.runtime_rules import Demand, RuntimeRules
from verifier.appraisal.runtime_state import RuntimeState

RUNTIME_CLEAN: Final = "runtime-clean"
"""Finding code: every measured file is as the runtime policy says."""

COMPARED_STEP: Final = 5

_WORDS: Final = {
    RefusalCode.IMA_FILE_DENIED: "denied by the runtime policy",
    RefusalCode.IMA_SIGNATURE_INVALID: "signed, but not by the key that the signature names",
    RefusalCode.IMA_SIGNER_UNKNOWN: "signed by a key that no keyring of the runtime policy holds",
    RefusalCode.IMA_FILE_UNKNOWN: "not in the runtime policy",
    RefusalCode.IMA_VIOLATION: "changed while being measured (the paths are not proven)",
}


def judge_runtime(
    state: RuntimeState, rules: RuntimeRules, by_log: AbstractSet[int]
) -> tuple[Finding, ...]:
    """Say what the proven entries of this boot are worth.

    Args:
        state: What the list proves.
        rules: What each observation is worth.
        by_log: PCRs that the policy holds against nothing but a log.

    Returns:
        One finding for each kind of trouble, worst first, with the first few files named; or one
        that says that all is known. None where nothing is proven: the faults have said so.
    """
    if state.progress is None:
        return ()
    findings = (*_against(state, rules), *_undeclared(state, rules, by_log))
    if state.progress.measures_nothing:
        return (*findings, _nothing_measured(rules))
    if any(finding.value for finding in findings):
        return findings
    return (*findings, _clean(state, rules))


def _against(state: RuntimeState, rules: RuntimeRules) -> Iterator[Finding]:
    progress = state.progress
    if progress is None:
        return
    worth = {
        RefusalCode.IMA_FILE_DENIED: (rules.denied, "ima.denied"),
        RefusalCode.IMA_SIGNATURE_INVALID: (rules.denied, "ima.denied"),
        RefusalCode.IMA_SIGNER_UNKNOWN: (rules.unknown, "ima.unknown"),
        RefusalCode.IMA_FILE_UNKNOWN: (rules.unknown, "ima.unknown"),
        RefusalCode.IMA_VIOLATION: (rules.violation, "ima.violation"),
    }
    yield from _aggregate(state, rules)
    for code, (value, rule) in worth.items():
        number = progress.counts.get(code, 0)
        if number:
            files = "1 file was" if number == 1 else f"{number} files were"
            names = told(code, progress.counts, progress.samples)
            yield _finding(code, value, f"{files} {_WORDS[code]}: {names}", rules, rule)
    if state.policy_missing:
        yield _finding(
            RefusalCode.REFERENCE_MISSING,
            rules.unknown,
            f"no runtime policy is named {rules.policy!r}; add it with: "
            "verifier runtime-policy add FILE",
            rules,
            "ima.policy",
        )
    for pcr, number in sorted(unquoted_of(progress).items()):
        yield _finding(
            RefusalCode.PCR_NOT_COVERED,
            rules.unknown,
            f"{number} entries of the IMA list extend PCR {pcr}, which the quote does not cover: "
            "they prove nothing. Select it in the appraisal policy",
            rules,
            "ima.unknown",
        )


def _undeclared(
    state: RuntimeState, rules: RuntimeRules, by_log: AbstractSet[int]
) -> Iterator[Finding]:
    """Yield the PCRs that entries extend while the policy believes the firmware log of them.

    These entries lead to the quoted value. But the next device may keep its entries back and tell
    them as firmware events, which need no proof of their content; nothing would show.
    """
    progress = state.progress
    if progress is None:
        return
    extended = {pcr for held in progress.pcrs.values() for pcr in held}
    for pcr in sorted((extended & by_log) - set(rules.pcrs)):
        yield _finding(
            RefusalCode.PCR_NOT_COVERED,
            rules.unknown,
            f"entries of the IMA list extend PCR {pcr}, which the policy judges by its log alone: "
            "entries that a device keeps back could be told as firmware events. Name it in "
            'ima.other_pcrs, or judge it with match = "value" or "events"',
            rules,
            "ima.other_pcrs",
        )


def _aggregate(state: RuntimeState, rules: RuntimeRules) -> Iterator[Finding]:
    progress = state.progress
    if progress is None:
        return
    required = rules.boot_aggregate is Demand.REQUIRED
    code = RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH
    if progress.counts.get(code):
        yield _finding(
            code,
            rules.denied if required else 0,
            "the IMA list speaks of another boot than the quote: "
            + told(code, progress.counts, progress.samples),
            rules,
            "ima.boot_aggregate",
        )
    if progress.counts.get(AGGREGATE_NOT_QUOTED):
        yield _finding(
            code,
            rules.unknown if required else 0,
            "boot_aggregate cannot be recomputed: "
            + told(AGGREGATE_NOT_QUOTED, progress.counts, progress.samples)
            + '; select PCRs 0 to 9 of that bank, or set boot_aggregate = "reported"',
            rules,
            "ima.boot_aggregate",
        )


def _nothing_measured(rules: RuntimeRules) -> Finding:
    """Say that a list without a file proves nothing of what runs: anything may."""
    return _finding(
        RefusalCode.IMA_LIST_MISSING,
        rules.unknown if rules.list is Demand.REQUIRED else 0,
        "the IMA list measures no file, so what runs is not known: no IMA policy was loaded. Boot "
        "the machine with one (ima_policy=tcb, or /etc/ima/ima-policy)",
        rules,
        "ima.list",
    )


def _clean(state: RuntimeState, rules: RuntimeRules) -> Finding:
    progress = state.progress
    entries = progress.entries if progress is not None else 0
    policy = progress.policy if progress is not None else ""
    tail = f"; {state.tail} newer ones are judged next time" if state.tail else ""
    return _finding(
        RUNTIME_CLEAN,
        rules.known,
        f"all {entries} entries of the IMA list are as runtime policy {policy} says{tail}",
        rules,
        "ima.known",
    )


def _finding(code: str, value: int, reason: str, rules: RuntimeRules, rule: str) -> Finding:
    return Finding(
        code=code,
        claim=rules.claim,
        value=value,
        reason=reason,
        step=COMPARED_STEP,
        pcr=rules.pcr,
        rule=rule,
    )
