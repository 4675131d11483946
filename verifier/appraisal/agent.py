"""Steps 4 and 5 for the AI agent's own files: its log against PCR, AIBOM and endorsement.

Claims, by the table of AR4SI 2.3.4. Code and models that are not what the AIBOM lists speak against
``executables`` (96: contraindicated loaded); data and settings against ``file-system`` (96), and so
do files that nobody listed (32: unrecognised files). An AIBOM that says nothing of one of its five
parts is ``configuration`` 36 (security-relevant elements unavailable). Files that are all as
listed give ``file-system`` 2 (only approved files), which here is said of the agent's folder alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from attestation.algorithms import HashAlgorithm, short_digest
from attestation.logs.cel import Measurement, shown_path
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from attestation.result import Claim, Finding
from attestation.wire.cyclonedx import ListedComponent
from verifier.appraisal.agent_log import AgentLogCache, JudgedAgentLog
from verifier.appraisal.agent_rules import AgentRules, agent_rules
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.freshness import FreshQuote
from verifier.reference_values.aibom import AiBom
from verifier.reference_values.model import PcrKey, ReferenceLibrary

__all__ = ["AgentRules", "AgentState", "agent_rules", "judge_agent", "prove_agent"]

AGENT_MATCHED: Final = "agent-files-matched"
"""Finding code: every file of the agent is as its AIBOM lists it, and there is no other."""

_STEP: Final = 5
_MATCHED: Final = 2
_MOST_NAMED: Final = 8
_LOGS: Final = AgentLogCache()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """What the agent's log proves.

    Attributes:
        explained: The PCRs that this log must explain; no other log need.
        faults: What is wrong with the log as a proof.
        at: The moment of judgement (aware).
        log: The log; None if none was sent or it proves nothing.
        aibom: The AIBOM that was measured; None if we do not hold it.
        foreign: SHA-256 of the AIBOMs measured earlier in this boot that we do not hold.
    """

    explained: frozenset[PcrKey]
    faults: tuple[PcrFault, ...]
    at: datetime
    log: JudgedAgentLog | None = None
    aibom: AiBom | None = None
    foreign: tuple[bytes, ...] = ()


def prove_agent(
    fresh: FreshQuote, values: PcrBanks, rules: AgentRules | None, reference: ReferenceLibrary
) -> AgentState | None:
    """Hold the agent's log against the quoted PCR in every quoted bank (step 4).

    Args:
        fresh: From step 3; its evidence holds the log.
        values: The proven PCR values.
        rules: None if the policy does not ask.
        reference: Holds the AIBOMs.

    Raises:
        InputError: If the log is malformed or too large.
    """
    if rules is None:
        return None
    content = fresh.bound.authentic.evidence.agent_log
    held = {bank: pcrs[rules.pcr] for bank, pcrs in values.items() if rules.pcr in pcrs}
    explained = frozenset((bank, rules.pcr) for bank in held)
    log = _LOGS.judged(content) if content is not None else None
    faults = tuple(
        fault
        for bank, value in held.items()
        if (fault := _fault(bank, rules.pcr, value, log)) is not None
    )
    if log is None or faults or not held:
        return AgentState(explained=explained, faults=faults, at=fresh.at)
    measured = log.files.aibom
    aibom = reference.aiboms.get(measured.digest) if measured is not None else None
    foreign = tuple(
        digest
        for digest in log.files.aiboms
        if digest not in reference.aiboms and (measured is None or digest != measured.digest)
    )
    return AgentState(
        explained=explained, faults=faults, at=fresh.at, log=log, aibom=aibom, foreign=foreign
    )


def _fault(
    bank: HashAlgorithm, pcr: int, value: bytes, log: JudgedAgentLog | None
) -> PcrFault | None:
    code, place = RefusalCode.AGENT_REPLAY_MISMATCH, f"PCR {pcr} ({bank.label})"
    if log is None:
        code = RefusalCode.AGENT_LOG_MISSING
        reason = f"{place}: the policy asks what the AI agent consists of and no log was sent"
        mend = "Set [agent] in the device's settings"
    elif log.pcr != pcr:
        reason = f"{place}: the agent's log is that of PCR {log.pcr}"
        mend = "Set agent.pcr on the device, or in the policy, to the same PCR"
    elif bank in log.wrong:
        reason, mend = f"{place}: {log.wrong[bank]}", "The log was edited; restart the machine"
    elif bank not in log.values:
        reason = f"{place}: the agent's log has no {bank.label} digests"
        mend = "Restart the machine, so that every bank is measured from the start"
    elif log.values[bank] != value:
        reason = (
            f"{place} holds {short_digest(value)} but the agent's log replays to "
            f"{short_digest(log.values[bank])}"
        )
        mend = "Something else extended it or the log was edited; restart the machine"
    else:
        return None
    return PcrFault(code=code, bank=bank, pcr=pcr, reason=f"{reason}. {mend}")


def measured_aibom(content: bytes) -> bytes | None:
    """Return the SHA-256 of the AIBOM that an agent's log says is in force; None if there is none.

    What the log says counts only once its evidence was appraised (:data:`AGENT_MATCHED`).

    Raises:
        InputError: If the log is malformed or too large.
    """
    measured = _LOGS.judged(content).files.aibom
    return measured.digest if measured is not None else None


def judge_agent(state: AgentState, rules: AgentRules) -> tuple[Finding, ...]:
    """Say what the proven files are worth (step 5); nothing where the log proves nothing."""
    if state.log is None:
        return ()
    found = (*state.log.findings(state.aibom, rules, _judge), *_foreign(state, rules))
    if state.aibom is None or not rules.require_endorsement:
        return found
    refusal = state.aibom.endorsement.refusal(state.at, rules.providers)
    if refusal is None:
        return found
    code, reason = refusal
    words = f"AIBOM {state.aibom.name}: {reason}"
    return (*found, _finding(code, Claim.EXECUTABLES, rules.unendorsed, words))


def _foreign(state: AgentState, rules: AgentRules) -> Iterator[Finding]:
    """Yield that other AIBOMs held earlier; outside ``_judge``, since it depends on the library."""
    if state.foreign:
        shown = _named((digest.hex() for digest in state.foreign), len(state.foreign))
        words = (
            f"AIBOMs that this verifier does not hold were measured earlier in this boot: {shown}"
        )
        yield _finding(RefusalCode.AIBOM_UNKNOWN, Claim.EXECUTABLES, rules.earlier, words)


def _judge(log: JudgedAgentLog, aibom: AiBom | None, rules: AgentRules) -> tuple[Finding, ...]:
    """Compare one log with one AIBOM; the same for every device that sends it, so kept."""
    if aibom is None:
        return (_unknown(log, rules),)
    if rules.aiboms and aibom.name not in rules.aiboms and aibom.sha256.hex() not in rules.aiboms:
        words = f"AIBOM {aibom.name} is not one that the policy admits"
        return (_finding(RefusalCode.AIBOM_UNKNOWN, Claim.EXECUTABLES, rules.unknown, words),)
    found = [
        *_files(log, aibom, rules),
        *_uncovered(log, rules),
        *islice(_components(aibom, rules), _MOST_NAMED),
        *_parts(aibom, rules),
    ]
    if not any(one.claim is Claim.FILE_SYSTEM for one in found):
        words = f"all {len(aibom.files)} files are as AIBOM {aibom.name} lists them"
        if not any(one.claim is Claim.EXECUTABLES for one in found):
            found.append(_finding(AGENT_MATCHED, Claim.FILE_SYSTEM, _MATCHED, words))
    return tuple(found)


def _unknown(log: JudgedAgentLog, rules: AgentRules) -> Finding:
    measured = log.files.aibom
    words = (
        f"the device measured AIBOM {shown_path(measured.path)} "
        f"(SHA-256 {measured.digest.hex()}), which this verifier does not hold. Load it with "
        "'verifier aibom add' if it is one of yours"
        if measured is not None
        else "the device measured no AIBOM"
    )
    return _finding(RefusalCode.AIBOM_UNKNOWN, Claim.EXECUTABLES, rules.unknown, words)


def _files(log: JudgedAgentLog, aibom: AiBom, rules: AgentRules) -> Iterator[Finding]:
    yield from _listed(log, aibom, rules)
    present, past = log.files.present, log.files.past
    name = f"not listed in AIBOM {aibom.name}"
    there = {path: one for path, one in present.items() if path not in aibom.files}
    gone = {
        path: contents[-1]
        for path, contents in past.items()
        if path not in aibom.files and path not in present
    }
    for paths, value, words in (
        (there, rules.unlisted, f"there and {name}"),
        (gone, rules.earlier, f"there earlier in this boot and {name}"),
    ):
        if paths:
            shown = _named((_told(path, one) for path, one in paths.items()), len(paths))
            code = RefusalCode.AGENT_FILE_UNLISTED
            yield _finding(code, Claim.FILE_SYSTEM, value, f"{words}: {shown}")


def _listed(log: JudgedAgentLog, aibom: AiBom, rules: AgentRules) -> Iterator[Finding]:
    present, past = log.files.present, log.files.past
    changed = dict.fromkeys(
        path for path in aibom.files if path in present and not _fits(present[path], aibom)
    )
    missing = dict.fromkeys(path for path in aibom.files if path not in present)
    earlier = dict.fromkeys(
        path
        for path in past
        if path in aibom.files
        and path not in changed
        and path not in missing
        and any(not _fits(one, aibom) for one in past[path])
    )
    for program in (True, False):
        claim = Claim.EXECUTABLES if program else Claim.FILE_SYSTEM
        for code, paths, value, words in (
            (RefusalCode.AGENT_FILE_CHANGED, changed, rules.changed, "not as the AIBOM lists it"),
            (RefusalCode.AGENT_FILE_MISSING, missing, rules.missing, "listed and not there"),
            (
                RefusalCode.AGENT_FILE_CHANGED,
                earlier,
                rules.earlier,
                "something else earlier in this boot",
            ),
        ):
            named = [path for path in paths if aibom.files[path].program is program]
            if named:
                shown = _named((_told(path, present.get(path)) for path in named), len(named))
                yield _finding(code, claim, value, f"{words}: {shown}")


def _fits(measured: Measurement, aibom: AiBom) -> bool:
    return measured.kind.measured and measured.digest in aibom.files[measured.path].digests


def _told(path: str, measured: Measurement | None) -> str:
    shown = shown_path(path)
    if measured is None or measured.kind.measured:
        return shown
    return f"{shown} ({measured.kind.value})"


def _named(names: Iterable[str], count: int) -> str:
    shown = [name for name, _ in zip(names, range(_MOST_NAMED), strict=False)]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + more


def _uncovered(log: JudgedAgentLog, rules: AgentRules) -> Iterator[Finding]:
    """Yield what the log itself says that it does not cover."""
    strange = [one for one in log.files.excluded if one not in rules.exclude]
    if strange:
        shown = _named((shown_path(one) for one in strange), len(strange))
        yield _finding(
            RefusalCode.AGENT_FILE_UNLISTED,
            Claim.FILE_SYSTEM,
            rules.unlisted,
            f"not measured, and the policy does not list it under agent.exclude: {shown}",
        )
    if log.files.full:
        yield _finding(
            RefusalCode.AGENT_LOG_FULL,
            Claim.EXECUTABLES,
            rules.changed,
            f"the agent's log was full after {log.records} records; what the agent is now was not "
            "measured. Exclude files that change all the time, then restart the machine",
        )


def _components(aibom: AiBom, rules: AgentRules) -> Iterator[Finding]:
    for one in aibom.components:
        rule = next((entry for entry in rules.deny if _denies(entry, one)), None)
        if rule is None and not one.exploitable:
            continue
        why = (
            f"the policy denies {shown_path(rule)}"
            if rule is not None
            else "the AIBOM itself calls it exploitable: "
            + ", ".join(shown_path(name) for name in one.exploitable)
        )
        words = f"component {shown_path(one.ref)} of AIBOM {aibom.name}: {why}"
        yield _finding(RefusalCode.AGENT_COMPONENT_DENIED, Claim.EXECUTABLES, rules.denied, words)


def _denies(entry: str, one: ListedComponent) -> bool:
    if entry.startswith("sha256:"):
        return entry.removeprefix("sha256:").lower() in {digest.hex() for digest in one.digests}
    versions = one.purl.startswith((f"{entry}@", f"{entry}?", f"{entry}#"))
    return entry == one.ref or (bool(one.purl) and (entry == one.purl or versions))


def _parts(aibom: AiBom, rules: AgentRules) -> Iterator[Finding]:
    if aibom.missing:
        parts = ", ".join(part.value for part in aibom.missing)
        words = f"AIBOM {aibom.name} says nothing of {parts}; ask its provider to complete it"
        yield _finding(RefusalCode.AIBOM_INCOMPLETE, Claim.CONFIGURATION, rules.incomplete, words)


def _finding(code: str, claim: Claim, value: int, reason: str) -> Finding:
    return Finding(code=code, claim=claim, value=value, reason=reason, step=_STEP)
