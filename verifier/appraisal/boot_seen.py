"""What every rule of ``[boot]`` is made of: its worth, what it saw, and the words for it.

A rule says one of three things: as required, otherwise than required (with a refusal code), or
*not proven*. Silence of the log is never taken for a good fact.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from attestation.boot.facts import BootFacts, Fact
from attestation.refusals import RefusalCode
from attestation.result import Claim

T = TypeVar("T")

BOOT_AS_REQUIRED: Final = "boot-as-required"
"""Finding code: a boot rule is met."""


class Seen(NamedTuple):
    """What one rule saw: a code, words, and the PCR it rests on if there is one."""

    code: str
    reason: str
    pcr: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What one rule's answer is worth.

    Attributes:
        claim: The AR4SI claim it decides.
        otherwise: The claim's value when the boot was otherwise than wanted.
        missing: Its value when the log does not prove it.
        met: Its value when all is as required; 0 asserts nothing.
    """

    claim: Claim
    otherwise: int
    missing: int
    met: int = 0


class BootRule(Protocol):
    """One rule of ``[boot]``."""

    @property
    def key(self) -> str:
        """Its key in ``[boot]``."""
        ...

    @property
    def worth(self) -> Worth:
        """What its answer is worth."""
        ...

    @property
    def pcrs(self) -> frozenset[int]:
        """The PCRs it rests on: an unreadable event in one of them leaves it unproven."""
        ...

    def look(self, facts: BootFacts) -> Seen:
        """Say what the facts show; the caller has seen that every event of ``pcrs`` is readable."""
        ...


def unproven(what: str, pcr: int | None) -> Seen:
    """Say that the log does not prove something."""
    where = f" (PCR {pcr})" if pcr is not None else ""
    return Seen(
        RefusalCode.BOOT_FACT_MISSING,
        f"the log does not prove {what}{where}. Send the whole log; if this firmware does not "
        "measure it, take the rule out of the policy",
        pcr,
    )


def proved(fact: Fact[T]) -> str:
    """Return the event that proves a fact, in words."""
    if not fact.proofs:
        return "no event"
    return f"PCR {fact.proofs[0].pcr}, event {fact.proofs[0].event}"


def more(found: Sized) -> str:
    """Return how many more there are than the one that is told."""
    count = len(found) - 1
    return f" and {count} more" if count else ""
