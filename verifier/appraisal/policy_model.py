"""Appraisal policies as values: which claim each PCR speaks to, what each observation is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.pcr import PcrSelection
from attestation.refusals import RefusalCode
from attestation.result import Claim
from verifier.appraisal.agent import AgentRules
from verifier.appraisal.boot_rules import BootRules
from verifier.appraisal.runtime_rules import DEFAULT_PCR, RuntimeRules


class Match(StrEnum):
    """What a PCR is held against."""

    VALUE = "value"
    """Its value is one of the reference set's."""
    EVENTS = "events"
    """Its value, or else every event in it, is one of the reference set's."""
    LOG = "log"
    """Nothing but its log: it must replay, whatever it says."""


class Coverage(StrEnum):
    """Whether a log must account for a PCR."""

    REQUIRED = "required"
    """No events for this PCR contradicts the platform: the log was stripped."""
    REPORTED = "reported"
    """Others extend this PCR after the log ends; say so, and rest on its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrRule:
    """How the PCRs of one group are judged.

    Attributes:
        indices: The PCRs, ascending.
        claim: The AR4SI claim they decide.
        known: The claim's value when all is as the reference says.
        unknown: Its value when a PCR differs from every reference set.
        missing: Its value when there is no reference set to compare with.
        contradicted: Its value when the log does not explain a PCR, or contradicts itself.
        match: What the PCRs are held against.
        coverage: Whether the log must account for them.
    """

    indices: tuple[int, ...]
    claim: Claim
    known: int
    unknown: int
    missing: int
    contradicted: int = 96
    match: Match = Match.VALUE
    coverage: Coverage = Coverage.REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PcrGroup:
    """One rule in one bank, with the words that every result repeats; compared by identity.

    Attributes:
        rule: The rule.
        bank: The bank.
        label: The bank's name.
        names: The PCRs in words.
        key: The rule's key in the policy, e.g. ``pcrs[2]``.
    """

    rule: PcrRule
    bank: HashAlgorithm
    label: str
    names: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """An appraisal policy for evidence (RFC 9334, 8.5).

    Attributes:
        id: Name and version, e.g. ``linux-server/1``; stands in every result.
        description: One sentence for people.
        selections: What a quote must select, banks in this order.
        rules: One for each group of PCRs; together they cover the selection exactly once.
        check_event_contents: Whether events whose digest must be that of their content are held
            to it (TCG PFP 10.4).
        separators: Whether PCR 0 to 7 must each hold exactly one genuine EV_SEPARATOR.
        result_lifetime: How long a result may be relied on.
        attest_interval: When a device should attest again.
        nonce_ttl: How long a nonce may be answered.
        unreviewed: Claim value of what rests on a reference set that nobody has reviewed; 0
            takes it as if it were.
        boot: What the boot must have been; None asks nothing of it.
        runtime: What the running system may have run; None asks for no IMA list.
        agent: What the AI agent's files must be; None asks for no agent log.
        by_pcr: The rule of each PCR; follows from ``rules``, like all below.
        rule_names: The rule of each PCR by its key, e.g. ``pcrs[2]``: the second group.
        quoted: The selection as a quote's (TPM_ALG_ID, indices) pairs.
        banks: The selected banks.
        groups: Each rule in each bank.
        by_log: The PCRs that are held against nothing but a log.
        compared: Every selected (bank, PCR) that is held against reference values.
        selection_text: The selection in words.
        stamp: Tells this value from every other, also from an equal one: what is remembered of it
            is kept by its stamp, which keeps nothing else in memory.

    Raises:
        MalformedInput: ``policy-invalid`` if selection and rules do not fit or one is empty.
    """

    id: str
    description: str
    selections: tuple[PcrSelection, ...]
    rules: tuple[PcrRule, ...]
    check_event_contents: bool = True
    separators: bool = True
    result_lifetime: timedelta = timedelta(minutes=5)
    attest_interval: timedelta = timedelta(minutes=1)
    nonce_ttl: timedelta = timedelta(minutes=2)
    unreviewed: int = 0
    boot: BootRules | None = None
    runtime: RuntimeRules | None = None
    agent: AgentRules | None = None
    by_pcr: Mapping[int, PcrRule] = field(init=False, repr=False, compare=False)
    rule_names: Mapping[int, str] = field(init=False, repr=False, compare=False)
    quoted: tuple[tuple[int, tuple[int, ...]], ...] = field(init=False, repr=False, compare=False)
    banks: tuple[HashAlgorithm, ...] = field(init=False, repr=False, compare=False)
    groups: tuple[PcrGroup, ...] = field(init=False, repr=False, compare=False)
    by_log: frozenset[int] = field(init=False, repr=False, compare=False)
    compared: tuple[tuple[HashAlgorithm, int], ...] = field(init=False, repr=False, compare=False)
    selection_text: str = field(init=False, repr=False, compare=False)
    stamp: object = field(init=False, repr=False, compare=False, default_factory=object)

    def __post_init__(self) -> None:
        selected = {index for selection in self.selections for index in selection.indices}
        ruled = [index for rule in self.rules for index in rule.indices]
        banks = [selection.bank for selection in self.selections]
        if not selected or any(not selection.indices for selection in self.selections):
            raise _invalid(
                "quote.selection: no PCR is selected; a policy that asks nothing proves nothing"
            )
        if len(set(banks)) != len(banks):
            raise _invalid("quote.selection: a bank is selected twice")
        self._refuse_sha1_alone()
        if len(set(ruled)) != len(ruled):
            raise _invalid("pcrs: a PCR stands in two rules")
        if set(ruled) != selected:
            odd = ", ".join(str(index) for index in sorted(set(ruled) ^ selected))
            raise _invalid(f"pcrs: each selected PCR needs exactly one rule; look at PCR {odd}")
        if self.agent is not None and self.agent.pcr not in selected:
            raise _invalid(f"agent.pcr: quote.selection does not select PCR {self.agent.pcr}")
        self._derive()
        if self.runtime is not None:
            self._refuse_unprovable_lists(self.runtime, selected)

    @property
    def facts_from(self) -> PcrSelection:
        """The selection that boot facts are derived from: the first that is not SHA-1's."""
        return next(one for one in self.selections if one.bank is not HashAlgorithm.SHA1)

    def _refuse_sha1_alone(self) -> None:
        weak: set[int] = set()
        strong: set[int] = set()
        for one in self.selections:
            (weak if one.bank is HashAlgorithm.SHA1 else strong).update(one.indices)
        if weak - strong:
            odd = ", ".join(str(index) for index in sorted(weak - strong))
            raise _invalid(
                f"quote.selection: PCR {odd} is selected in SHA-1 alone, which proves nothing; "
                "select it in a SHA-256 or stronger bank too"
            )

    def _refuse_unprovable_lists(self, runtime: RuntimeRules, selected: set[int]) -> None:
        """Refuse what lets entries of the IMA list pass for events of another log."""
        if runtime.pcr not in selected:
            raise _invalid(f"ima.pcr: quote.selection does not select PCR {runtime.pcr}")
        for index in runtime.other_pcrs:
            if index not in selected:
                raise _invalid(f"ima.other_pcrs: quote.selection does not select PCR {index}")
        if self.agent is not None and self.agent.pcr in runtime.pcrs:
            raise _invalid(
                f"agent.pcr: PCR {self.agent.pcr} is the IMA list's too ([ima]), and two logs "
                "cannot both lead to one PCR; choose another one on the device and here"
            )
        if DEFAULT_PCR in self.by_log and DEFAULT_PCR not in runtime.pcrs:
            raise _invalid(
                f"{self.rule_names[DEFAULT_PCR]}.match: Linux extends PCR {DEFAULT_PCR} with IMA "
                "entries, and a device could tell them as firmware events; name it in "
                'ima.other_pcrs, or judge it with match = "value" or "events"'
            )

    def _derive(self) -> None:
        """Compute once what every appraisal needs."""
        table = {index: rule for rule in self.rules for index in rule.indices}
        judged = tuple((one.bank, index) for one in self.selections for index in one.indices)
        derived = {
            "by_pcr": table,
            "rule_names": {
                index: f"pcrs[{number}]"
                for number, rule in enumerate(self.rules, 1)
                for index in rule.indices
            },
            "quoted": tuple((int(one.bank), one.indices) for one in self.selections),
            "banks": tuple(one.bank for one in self.selections),
            "groups": tuple(
                PcrGroup(
                    rule=_within(rule, one.indices),
                    bank=one.bank,
                    label=one.bank.label,
                    names=", ".join(str(index) for index in _within(rule, one.indices).indices),
                    key=f"pcrs[{number}]",
                )
                for one in self.selections
                for number, rule in enumerate(self.rules, 1)
                if _within(rule, one.indices).indices
            ),
            "by_log": frozenset(index for index in table if table[index].match is Match.LOG),
            "compared": tuple(key for key in judged if table[key[1]].match is not Match.LOG),
            "selection_text": "+".join(one.describe() for one in self.selections),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)


def _within(rule: PcrRule, indices: tuple[int, ...]) -> PcrRule:
    """Return the rule for those of its PCRs that one bank selects."""
    return replace(rule, indices=tuple(index for index in rule.indices if index in indices))


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.POLICY_INVALID, reason, structure="AppraisalPolicy")
