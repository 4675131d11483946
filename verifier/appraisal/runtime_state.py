"""What an IMA list proves, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.logs.ima.progress import RuntimeProgress
from verifier.appraisal.faults import PcrFault
from verifier.reference_values.model import PcrKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeState:
    """What the IMA list proves.

    Attributes:
        progress: How far the list is proven now; None if it is not.
        explained: The PCRs that the list answers for; their firmware log need not cover them.
        unheard: The PCRs that the list would answer for and does not; firmware events do not.
        faults: What is wrong with the list as a proof.
        tail: Entries that ran ahead of the quote; judged next time.
        policy_missing: Whether the runtime policy that was asked for is not there.
    """

    progress: RuntimeProgress | None
    explained: frozenset[PcrKey]
    unheard: frozenset[PcrKey] = frozenset()
    faults: tuple[PcrFault, ...] = ()
    tail: int = 0
    policy_missing: bool = False
