"""Step 4, measured state: what the PCRs hold, and which events led there.

PCR values are proven by the quote's pcrDigest, whoever supplied them; events are proven by
replaying to those values. A PCR that its log does not explain is a fault of that PCR, named with
what was seen; faults of the whole quote (another selection, a digest that does not fit) are raised.
A PCR for which the log has no event at all is never silently fine.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm, short_digest
from attestation.boot.facts import BootFacts
from attestation.errors import MalformedInput, ReplayMismatch
from attestation.evidence import Evidence, FirmwareLog
from attestation.logs.ima.progress import RuntimeProgress
from attestation.logs.replay import MeasuredEvent
from attestation.pcr import PcrBanks, PcrSelection, composite_digest
from attestation.refusals import RefusalCode
from verifier.appraisal.agent import AgentState, prove_agent
from verifier.appraisal.banks import bank_faults
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.freshness import FreshQuote
from verifier.appraisal.policy_model import AppraisalPolicy, Coverage
from verifier.appraisal.replay_cache import JudgedLog, ReplayCache, judge_log
from verifier.appraisal.runtime import RuntimeState, prove_runtime
from verifier.reference_values.model import PcrKey, ReferenceLibrary

_NOTHING: Final[frozenset[PcrKey]] = frozenset()
_ALL_ONES_AT_START: Final = range(17, 23)
_MENDS: Final = {
    0: "Compare the firmware on this machine with its maker's, or restore it",
    2: "Compare the option ROMs on this machine with their makers'",
    4: "Compare the boot loader on this machine with the reference, or re-install it",
    5: "Compare the boot loader's configuration and the partition table with the reference",
    7: "Compare the Secure Boot settings with the reference",
    8: "Compare the boot loader's commands and the kernel's with the reference",
    9: "Compare the kernel and the initial RAM disk with the reference, or re-install them",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredState:
    """Proven PCR values, and the events of those PCRs that replay.

    Attributes:
        fresh: The quote.
        values: The selected PCRs' values; each is proven by the quote.
        log: The judged log; None if none was sent. Its events are proven only for PCRs without a
            deciding fault.
        faults: PCRs that the logs do not explain, in selection order.
        boot: What the proven events say about the boot; None if the policy does not ask.
        runtime: What the IMA list proves; None if the policy does not ask.
        agent: What the agent's log proves; None if the policy does not ask.
    """

    fresh: FreshQuote
    values: PcrBanks
    log: JudgedLog | None
    faults: tuple[PcrFault, ...]
    boot: BootFacts | None = None
    runtime: RuntimeState | None = None
    agent: AgentState | None = None

    def events(self, bank: HashAlgorithm, pcr: int) -> tuple[MeasuredEvent, ...]:
        """Return the proven events of one PCR, in order; empty if its log is not proven."""
        if self.log is None or any(
            fault.decides and fault.pcr == pcr and fault.bank is bank for fault in self.faults
        ):
            return ()
        return tuple(event for event in self.log.replayed.events if event.pcr == pcr)


def attach_log(evidence: Evidence, content: bytes) -> Evidence:
    """Return the evidence with a log that the verifier kept, after checking that it is the one.

    Raises:
        MalformedInput: ``log-unknown`` if the content is not what the evidence's digest names.
    """
    log = evidence.firmware_log
    if log is None or hashlib.sha256(content).digest() != log.digest:
        raise _log_unknown()
    return dataclasses.replace(
        evidence, firmware_log=FirmwareLog(digest=log.digest, content=content)
    )


def measure(
    fresh: FreshQuote,
    policy: AppraisalPolicy,
    replays: ReplayCache | None,
    *,
    reference: ReferenceLibrary,
    progress: RuntimeProgress | None,
) -> MeasuredState:
    """Prove the PCR values and hold the logs against them.

    Args:
        fresh: From step 3.
        policy: Says what must be selected and what a log must cover.
        replays: Logs already replayed; None to replay each time.
        reference: Holds the runtime policies and AIBOMs that the logs are read against.
        progress: How far the device's IMA list was proven before; None for not at all.

    Returns:
        The measured state, with its faults.

    Raises:
        ReplayMismatch: ``pcr-selection-wrong`` or ``pcr-digest-mismatch``.
        InputError: If the log is malformed, or (``log-unknown``) only its digest was sent and the
            verifier does not have it.
    """
    quoted = fresh.bound.authentic.quoted
    _require_selection(quoted.selections, policy)
    judged = _judged_log(fresh.bound.authentic.evidence, policy.banks, replays)
    values = _candidate_values(fresh.bound.authentic.evidence, policy, judged)
    composite = composite_digest(fresh.bound.authentic.scheme_hash, policy.selections, values)
    if composite != quoted.pcr_digest:
        given = fresh.bound.authentic.evidence.pcr_values
        raise ReplayMismatch(
            RefusalCode.PCR_DIGEST_MISMATCH,
            "the PCR values sent are not the ones that were quoted"
            if given
            else "no PCR values were sent, and what the log replays to is not what was quoted",
            structure="TPMS_QUOTE_INFO",
        )
    runtime = prove_runtime(fresh, values, policy.runtime, reference, progress)
    agent = prove_agent(fresh, values, policy.agent, reference)
    explained = (runtime.explained if runtime else _NOTHING) | (
        agent.explained if agent else _NOTHING
    )
    unheard = runtime.unheard if runtime else _NOTHING
    faults: list[PcrFault] = []
    for selection in policy.selections:
        faults.extend(_faults(selection, policy, values, judged, explained, unheard))
    faults.extend(bank_faults(policy.selections, values, judged, explained))
    faults += (*(runtime.faults if runtime else ()), *(agent.faults if agent else ()))
    return MeasuredState(
        fresh=fresh,
        values=values,
        log=judged,
        faults=tuple(faults),
        boot=_boot_facts(policy, judged, faults, explained | unheard),
        runtime=runtime,
        agent=agent,
    )


def _require_selection(
    seen: tuple[tuple[int, tuple[int, ...]], ...], policy: AppraisalPolicy
) -> None:
    if seen != policy.quoted:
        raise ReplayMismatch(
            RefusalCode.PCR_SELECTION_WRONG,
            f"the quote covers {_describe(seen)}, asked was {policy.selection_text}",
            structure="TPMS_ATTEST",
        )


def _boot_facts(
    policy: AppraisalPolicy,
    judged: JudgedLog | None,
    faults: list[PcrFault],
    others: frozenset[PcrKey],
) -> BootFacts | None:
    """Derive boot facts from those PCRs of the facts' bank that the firmware log explains.

    None if the policy does not ask. PCRs of ``others`` are explained by another log: what the
    firmware log says of them was held against nothing.
    """
    if policy.boot is None or judged is None or policy.facts_from.bank in judged.missing_banks:
        return None
    first = policy.facts_from
    accused = {fault.pcr for fault in faults if fault.decides and fault.bank is first.bank}
    foreign = {pcr for bank, pcr in others if bank is first.bank}
    return judged.boot_facts(first.bank, frozenset(first.indices) - accused - foreign)


def _judged_log(
    evidence: Evidence, banks: tuple[HashAlgorithm, ...], replays: ReplayCache | None
) -> JudgedLog | None:
    log = evidence.firmware_log
    if log is None:
        return None
    known = replays.get((log.digest, banks)) if replays is not None else None
    if known is not None:
        return known
    if log.content is None:
        raise _log_unknown()
    judged = judge_log(log.content, banks)
    if replays is not None:
        replays.put((log.digest, banks), judged)
    return judged


def _candidate_values(
    evidence: Evidence, policy: AppraisalPolicy, judged: JudgedLog | None
) -> PcrBanks:
    """Return a value for each selected PCR: as sent, else as replayed, else as at start.

    Nothing is believed here: the pcrDigest proves them all together. Sizes are checked so that
    the digest's input can be cut in one way only.
    """
    values: dict[HashAlgorithm, dict[int, bytes]] = {}
    for selection in policy.selections:
        bank = selection.bank
        size = bank.size
        given = evidence.pcr_values.get(bank, {})
        replayed = judged.replayed.pcrs.get(bank, {}) if judged is not None else {}
        chosen: dict[int, bytes] = {}
        for index in selection.indices:
            value = given.get(index)
            if value is None:
                value = replayed.get(index) or start_value(bank, index)
            elif len(value) != size:
                raise MalformedInput(
                    RefusalCode.EVIDENCE_MALFORMED,
                    f"PCR {index} ({bank.label}) was sent as {len(value)} bytes, wanted {size}",
                    structure="pcr-values",
                )
            chosen[index] = value
        values[bank] = chosen
    return values


def _faults(
    selection: PcrSelection,
    policy: AppraisalPolicy,
    values: PcrBanks,
    judged: JudgedLog | None,
    explained: frozenset[PcrKey],
    unheard: frozenset[PcrKey],
) -> Iterator[PcrFault]:
    """Yield what no log explains in one bank, PCR by PCR; ``explained`` are other logs' PCRs.

    Of those in ``unheard`` the firmware log has no say: they are another log's, which is missing.
    """
    bank = selection.bank
    if judged is not None and bank in judged.missing_banks:
        reason = judged.missing_banks[bank].reason
        for index in selection.indices:
            if (bank, index) not in explained:
                yield PcrFault(
                    code=RefusalCode.LOG_BANK_MISSING, bank=bank, pcr=index, reason=reason
                )
        return
    replayed = judged.replayed.pcrs[bank] if judged is not None else {}
    held = values[bank]
    for index in selection.indices:
        if (bank, index) in explained:
            continue
        mute = (bank, index) in unheard
        expected = None if mute else replayed.get(index)
        if expected is None:
            sent = judged is not None and not mute
            yield from _not_covered(bank, index, held[index], policy, sent=sent, mute=mute)
        elif expected != held[index]:
            yield _mismatch(bank, index, held[index], expected)
    if judged is not None:
        yield from _self_contradictions(selection, policy, judged)


def _self_contradictions(
    selection: PcrSelection, policy: AppraisalPolicy, judged: JudgedLog
) -> Iterator[PcrFault]:
    """Yield where the log contradicts itself: contents, separators."""
    bank = selection.bank
    if policy.check_event_contents:
        for one in judged.contradictions[bank]:
            if one.pcr in selection.indices:
                yield PcrFault(
                    code=RefusalCode.LOG_EVENT_CONTRADICTS,
                    bank=bank,
                    pcr=one.pcr,
                    reason=f"PCR {one.pcr} ({bank.label}): event {one.number} of the firmware log "
                    f"({one.type_name}) does not tell what was measured: {one.reason}. "
                    "The log was edited; restore the machine's boot files and read it again",
                )
    if policy.separators:
        for index, reason in judged.separators[bank].items():
            if index in selection.indices:
                yield PcrFault(
                    code=RefusalCode.LOG_EVENT_CONTRADICTS,
                    bank=bank,
                    pcr=index,
                    reason=f"PCR {index} ({bank.label}): {reason}. Either the log was edited or "
                    "the firmware does not measure into this bank",
                )


def _mismatch(bank: HashAlgorithm, index: int, held: bytes, expected: bytes) -> PcrFault:
    return PcrFault(
        code=RefusalCode.LOG_REPLAY_MISMATCH,
        bank=bank,
        pcr=index,
        reason=f"PCR {index} ({bank.label}) holds {short_digest(held)} but the firmware log "
        f"replays to {short_digest(expected)}: something was measured that no log explains. "
        f"{_mend(index)}",
    )


def _not_covered(
    bank: HashAlgorithm, index: int, held: bytes, policy: AppraisalPolicy, *, sent: bool, mute: bool
) -> Iterator[PcrFault]:
    initial = held == start_value(bank, index)
    required = policy.by_pcr[index].coverage is Coverage.REQUIRED
    if initial and not required:
        return
    log = "the firmware log has no event for it" if sent else "no firmware log was sent"
    if mute:
        log = "its IMA list was not sent, or is not proven"
    yield PcrFault(
        code=RefusalCode.PCR_NOT_COVERED,
        bank=bank,
        pcr=index,
        reason=f"PCR {index} ({bank.label}) holds "
        f"{'its start value' if initial else short_digest(held)} and {log}"
        + (
            ". The policy wants this PCR explained; send the whole log"
            if required
            else "; only its value can be judged"
        ),
        decides=required,
    )


def _mend(index: int) -> str:
    return _MENDS.get(index) or _MENDS.get(index - index % 2) or "Compare with the reference"


def start_value(bank: HashAlgorithm, index: int) -> bytes:
    """Return what a PCR holds before anything is measured (PC Client TPM Profile, 4.6.2)."""
    return (b"\xff" if index in _ALL_ONES_AT_START else b"\x00") * bank.size


def _describe(selections: tuple[tuple[int, tuple[int, ...]], ...]) -> str:
    parts = []
    for bank, indices in selections:
        try:
            label = HashAlgorithm(bank).label
        except ValueError:
            label = f"0x{bank:04x}"
        parts.append(f"{label}:{','.join(str(index) for index in indices)}")
    return "+".join(parts) or "no PCR at all"


def _log_unknown() -> MalformedInput:
    return MalformedInput(
        RefusalCode.LOG_UNKNOWN,
        "only the firmware log's digest was sent and this verifier has no log of that digest; "
        "send the log whole",
        structure="firmware-log",
    )
