"""Step 4 for the running system: its IMA list against the quoted PCRs.

A list is proven if it leads to the quoted value of every quoted PCR that it extends, in every
quoted bank; entries after that point ran ahead of the quote and wait for the next one. A device
sends each entry once in a boot: what was proven is kept as :class:`RuntimeProgress`, with what was
found, so that a file that was run stays told until the machine is booted again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from attestation.algorithms import HashAlgorithm, short_digest
from attestation.errors import MalformedInput
from attestation.evidence import ImaPart
from attestation.logs.ima.follow import Followed, Known, Place, follow
from attestation.logs.ima.framing import hash_size, read_entry, walk
from attestation.logs.ima.progress import RuntimeProgress
from attestation.logs.ima.text import template_hash
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.freshness import FreshQuote
from verifier.appraisal.runtime_findings import RUNTIME_CLEAN, judge_runtime
from verifier.appraisal.runtime_ledger import Ledger, unquoted_of
from verifier.appraisal.runtime_rules import Demand, RuntimeRules, runtime_rules
from verifier.appraisal.runtime_state import RuntimeState
from verifier.reference_values.model import PcrKey, ReferenceLibrary

__all__ = [
    "RUNTIME_CLEAN",
    "RuntimeRules",
    "RuntimeState",
    "judge_runtime",
    "prove_runtime",
    "runtime_rules",
]

_NOTHING_KNOWN: Final = Known()
_NOT_SENT: Final = (
    "the policy asks for an IMA list and none was sent. Set evidence.ima_list on the device and "
    "boot it with an IMA policy (ima_policy=tcb)"
)
_NOTHING_MEASURED: Final = (
    "an IMA list was sent, but the quoted PCR says that nothing was measured: the kernel found no "
    "TPM when it began to measure, or runs without IMA. Build the TPM's driver into the kernel"
)


def prove_runtime(
    fresh: FreshQuote,
    values: PcrBanks,
    rules: RuntimeRules | None,
    reference: ReferenceLibrary,
    progress: RuntimeProgress | None,
) -> RuntimeState | None:
    """Hold the IMA list against the quoted PCRs; None if the policy does not ask.

    A PCR that the list extends begins at zeros: the kernel is the first to use it. Whatever a
    firmware log says of it is not believed, since firmware events need no proof of their content
    and could stand for entries that are kept back.

    Args:
        fresh: The quote, with the evidence that it binds.
        values: The quoted PCR values, proven.
        rules: ``[ima]`` of the appraisal policy.
        reference: Holds the runtime policy.
        progress: How far the list was proven before; used only if the device goes on from there.

    Raises:
        MalformedInput: ``ima-offset-unknown`` if the list does not begin where the verifier is;
            ``policy-invalid`` if the rules' PCR is in no quoted bank.
        InputError: If the list cannot be read.
    """
    if rules is None:
        return None
    banks = _banks(values, rules.pcr)
    part = fresh.bound.authentic.evidence.ima_list
    if part is None or not (part.offset or part.content):
        return _without_list(values, rules, _NOT_SENT)
    policy = reference.runtime.get(rules.policy)
    policy_id, known = (policy.id, policy.known) if policy is not None else ("", _NOTHING_KNOWN)
    reset_count = fresh.bound.authentic.attest.clock.reset_count
    before = _before(part, progress, (reset_count, policy_id), values, rules.pcr)
    ledger = Ledger(policy, values, before)
    followed, padded = _follow(part.content, before, values, rules.pcr, known, ledger)
    if not followed.matched:
        return _unproven(part.content, followed, values, banks, rules)
    if before is None:
        if not followed.entries:
            return _without_list(values, rules, _NOTHING_MEASURED)
        ledger.begin(read_entry(part.content, 0, hash_size(part.content), 0)[0])
    ledger.settle(followed.unquoted)
    return _proven(
        followed,
        RuntimeProgress(
            reset_count=reset_count,
            entries=(before.entries if before is not None else 0) + followed.entries,
            pcrs=_merged(before.pcrs if before is not None else {}, followed.pcrs),
            padded=padded,
            policy=policy_id,
            counts=ledger.counts,
            samples=ledger.samples,
            aggregates=ledger.aggregates,
        ),
        values,
        rules,
        policy_missing=policy is None,
    )


def _own(values: PcrBanks, rules: RuntimeRules) -> tuple[PcrKey, ...]:
    """Return the quoted PCRs of the kernel: nothing but its list explains them."""
    return tuple((bank, pcr) for bank, held in values.items() for pcr in rules.pcrs if pcr in held)


def _banks(values: PcrBanks, pcr: int) -> list[HashAlgorithm]:
    banks = [bank for bank, quoted in values.items() if pcr in quoted]
    if not banks:
        raise MalformedInput(
            RefusalCode.POLICY_INVALID,
            f"ima.pcr: PCR {pcr} is not in quote.selection",
            structure="AppraisalPolicy",
        )
    return banks


def _before(
    part: ImaPart,
    progress: RuntimeProgress | None,
    wanted: tuple[int, str],
    values: PcrBanks,
    pcr: int,
) -> RuntimeProgress | None:
    """Return what the list goes on from; None if it is whole."""
    if part.offset == 0:
        return None
    if (
        progress is None
        or part.offset != progress.entries
        or (progress.reset_count, progress.policy) != wanted
        or not _knows_all(progress, values, pcr)
    ):
        raise MalformedInput(
            RefusalCode.IMA_OFFSET_UNKNOWN,
            f"the IMA list begins at entry {part.offset}, where this verifier is not; "
            "send it whole",
            structure="ima-list",
        )
    return progress


def _knows_all(progress: RuntimeProgress, values: PcrBanks, pcr: int) -> bool:
    """Whether it holds the value of every quoted PCR that entries before it extend.

    It does not if a policy that quotes more of them has come since.
    """
    extended = {pcr, *unquoted_of(progress)}.union(*progress.pcrs.values())
    return all(
        extended.intersection(quoted) <= progress.pcrs.get(bank, {}).keys()
        for bank, quoted in values.items()
    )


def _follow(
    content: bytes,
    before: RuntimeProgress | None,
    values: PcrBanks,
    pcr: int,
    known: Known,
    ledger: Ledger,
) -> tuple[Followed, bool | None]:
    """Follow by the kernel's rule for banks other than SHA-1; both are tried until one held."""
    told = before.padded if before is not None else None
    entries = before.entries if before is not None else 0
    start: PcrBanks = before.pcrs if before is not None else {}
    place = Place(entries=entries, start=start, quoted=values, padded=bool(told))
    followed = follow(content, place, pcr, known, ledger)
    if told is None and not followed.matched:
        place = replace(place, padded=True)
        followed = follow(content, place, pcr, known, ledger)
    return followed, place.padded if followed.entries else told


def _proven(
    followed: Followed,
    progress: RuntimeProgress,
    values: PcrBanks,
    rules: RuntimeRules,
    *,
    policy_missing: bool,
) -> RuntimeState:
    """Return the state; a PCR that an earlier piece extended must still be where it was.

    A PCR of the kernel that no entry extended must still hold zeros: a device that keeps all its
    entries back extends nothing, or shows here.
    """
    keys = [(bank, pcr) for bank, held in progress.pcrs.items() for pcr in held]
    quoted = [(bank, pcr) for bank, pcr in keys if pcr in values.get(bank, {})]
    silent = [key for key in _own(values, rules) if key not in quoted]
    faults = (
        *(
            _mismatch(bank, pcr, "something else extended it since", values)
            for bank, pcr in quoted
            if progress.pcrs[bank][pcr] != values[bank][pcr]
        ),
        *(
            _mismatch(bank, pcr, "its entries are missing, or something else extended it", values)
            for bank, pcr in silent
            if any(values[bank][pcr])
        ),
    )
    return RuntimeState(
        progress=None if faults else progress,
        explained=frozenset((*quoted, *silent)),
        faults=faults,
        tail=followed.tail,
        policy_missing=policy_missing,
    )


def _unproven(
    content: bytes,
    followed: Followed,
    values: PcrBanks,
    banks: list[HashAlgorithm],
    rules: RuntimeRules,
) -> RuntimeState:
    """Return the state of a list that does not lead to the quote, with what can be said of why."""
    edited = _first_edited(content)
    wrong = [
        (bank, pcr)
        for bank, reached in followed.pcrs.items()
        for pcr, value in reached.items()
        if value != values[bank][pcr]
    ] or [(bank, rules.pcr) for bank in banks]
    if edited is not None:
        reason = f"its entry {edited} was edited: the template hash is not that of its data"
        code = RefusalCode.IMA_TEMPLATE_MISMATCH
    else:
        reason = "it was edited or cut, or something else extended the PCR"
        code = RefusalCode.IMA_REPLAY_MISMATCH
    return RuntimeState(
        progress=None,
        explained=frozenset(wrong),
        unheard=frozenset(_own(values, rules)).difference(wrong),
        faults=tuple(_mismatch(bank, pcr, reason, values, code) for bank, pcr in wrong),
    )


def _first_edited(content: bytes) -> int | None:
    """Return the first entry whose template hash is not that of its data; None if all fit."""
    size = hash_size(content)
    for number, entry in enumerate(walk(content)):
        if not entry.is_violation and template_hash(size, entry.data) != entry.digest:
            return number
    return None


def _mismatch(
    bank: HashAlgorithm,
    pcr: int,
    why: str,
    values: PcrBanks,
    code: RefusalCode = RefusalCode.IMA_REPLAY_MISMATCH,
) -> PcrFault:
    return PcrFault(
        code=code,
        bank=bank,
        pcr=pcr,
        reason=f"PCR {pcr} ({bank.label}) holds {short_digest(values[bank][pcr])} and no beginning "
        f"of the IMA list leads there: {why}. Boot the machine again and look what differs",
    )


def _without_list(values: PcrBanks, rules: RuntimeRules, reason: str) -> RuntimeState:
    fault = PcrFault(
        code=RefusalCode.IMA_LIST_MISSING,
        bank=_banks(values, rules.pcr)[0],
        pcr=rules.pcr,
        reason=reason,
        decides=rules.list is Demand.REQUIRED,
    )
    return RuntimeState(
        progress=None,
        explained=frozenset(),
        unheard=frozenset(_own(values, rules)),
        faults=(fault,),
    )


def _merged(below: PcrBanks, above: PcrBanks) -> PcrBanks:
    """Return the values of both; those ``above`` win."""
    banks: list[HashAlgorithm] = list(dict.fromkeys((*below, *above)))
    keys: dict[HashAlgorithm, dict[int, bytes]] = {
        bank: {**below.get(bank, {}), **above.get(bank, {})} for bank in banks
    }
    return keys
