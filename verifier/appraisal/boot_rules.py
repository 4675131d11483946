"""``[boot]`` of an appraisal policy: what a boot must have been, judged on proven facts.

Each rule is a table with the AR4SI value that a boot ``otherwise`` than wanted is worth; rules
without further keys may be that number alone. What the log does not prove is
``boot-fact-missing`` with a value of its own (``missing``). An event that must be read and cannot
be is contraindicated by default (``unknown_events``): event types are covered by no digest, so
whoever may relabel one could hide anything under it. Facts of its PCR are then not proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from attestation.boot.facts import BootFacts, Trouble
from attestation.refusals import RefusalCode
from attestation.result import Claim, Finding
from verifier.appraisal.boot_seen import BOOT_AS_REQUIRED, BootRule, Seen

DEFAULT_UNKNOWN_EVENTS: Final = 96

_MEASURED_STEP: Final = 4
_CLAIM_OF_PCR: Final = {
    **dict.fromkeys((0, 2, 3, 6), Claim.HARDWARE),
    **dict.fromkeys((1, 7), Claim.CONFIGURATION),
}
"""Which claim an unreadable event speaks to; of all other PCRs it is executables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRules:
    """``[boot]`` of an appraisal policy.

    Attributes:
        rules: The rules, in the order of the policy.
        unknown_events: Claim value of an event that must be read and cannot be.
    """

    rules: tuple[BootRule, ...] = ()
    unknown_events: int = DEFAULT_UNKNOWN_EVENTS


def judge_boot(facts: BootFacts | None, rules: BootRules) -> tuple[Finding, ...]:
    """Say what the boot is worth; :meth:`JudgedLog.boot_findings` remembers it.

    Args:
        facts: From step 4; None if no log proved anything.
        rules: The policy's ``[boot]``.

    Returns:
        One finding for each rule, and one for each PCR with an unreadable event.
    """
    return tuple(_judge(facts, rules))


def _judge(facts: BootFacts | None, rules: BootRules) -> Iterator[Finding]:
    unreadable = _unreadable(facts.troubles) if facts is not None else {}
    for pcr, (trouble, more) in unreadable.items():
        yield Finding(
            code=trouble.code,
            claim=_CLAIM_OF_PCR.get(pcr, Claim.EXECUTABLES),
            value=rules.unknown_events,
            reason=f"PCR {pcr}, event {trouble.proof.event}: {trouble.reason}"
            + (f" (and {more} more events of this PCR)" if more else ""),
            step=_MEASURED_STEP,
            pcr=pcr,
            rule="boot.unknown_events",
        )
    for rule in rules.rules:
        seen = _look(rule, facts, unreadable)
        yield Finding(
            code=seen.code,
            claim=rule.worth.claim,
            value=_value(rule, seen),
            reason=seen.reason,
            step=_MEASURED_STEP,
            pcr=seen.pcr,
            rule=f"boot.{rule.key}",
        )


def _look(
    rule: BootRule, facts: BootFacts | None, unreadable: dict[int, tuple[Trouble, int]]
) -> Seen:
    if facts is None:
        return Seen(
            RefusalCode.BOOT_FACT_MISSING,
            f"no firmware log was sent, so nothing proves what boot.{rule.key} asks for. Send it",
        )
    for pcr in sorted(rule.pcrs & unreadable.keys()):
        event = unreadable[pcr][0].proof.event
        return Seen(
            RefusalCode.BOOT_FACT_MISSING,
            f"event {event} of PCR {pcr} cannot be read, so nothing in that PCR proves what "
            f"boot.{rule.key} asks for",
            pcr,
        )
    return rule.look(facts)


def _value(rule: BootRule, seen: Seen) -> int:
    if seen.code == BOOT_AS_REQUIRED:
        return rule.worth.met
    missing = seen.code == RefusalCode.BOOT_FACT_MISSING
    return rule.worth.missing if missing else rule.worth.otherwise


def _unreadable(troubles: tuple[Trouble, ...]) -> dict[int, tuple[Trouble, int]]:
    """Return the first trouble of each PCR, with how many more there are."""
    found: dict[int, tuple[Trouble, int]] = {}
    for trouble in troubles:
        first, more = found.get(trouble.proof.pcr, (trouble, -1))
        found[trouble.proof.pcr] = (first, more + 1)
    return found
