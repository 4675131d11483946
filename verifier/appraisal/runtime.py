"""Steps 4 and 5 for the running system: its IMA list against PCR and runtime policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.logs.ima.progress import RuntimeProgress
from attestation.pcr import PcrBanks
from attestation.result import Finding
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.freshness import FreshQuote
from verifier.appraisal.replay_cache import JudgedLog
from verifier.reference_values.model import PcrKey, ReferenceLibrary


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRules:
    """``[ima]`` of an appraisal policy.

    Attributes:
        policy: Name of the runtime policy that entries are held against.
    """

    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeState:
    """What the IMA list proves.

    Attributes:
        progress: How far the list is proven now; None if it is not.
        explained: The PCRs that the list leads to; their firmware log need not cover them.
        faults: What is wrong with the list as a proof.
        tail: Entries that ran ahead of the quote; judged next time.
    """

    progress: RuntimeProgress | None
    explained: frozenset[PcrKey]
    faults: tuple[PcrFault, ...] = ()
    tail: int = 0


def runtime_rules(table: Mapping[str, object]) -> RuntimeRules:
    """Read ``[ima]``; raises MalformedInput ``policy-invalid`` naming the key."""
    return RuntimeRules(policy=str(table.get("policy", "")))


def prove_runtime(
    fresh: FreshQuote,  # noqa: ARG001 - soon
    values: PcrBanks,  # noqa: ARG001
    rules: RuntimeRules | None,  # noqa: ARG001
    reference: ReferenceLibrary,  # noqa: ARG001
    progress: RuntimeProgress | None,  # noqa: ARG001
    firmware: JudgedLog | None,  # noqa: ARG001
) -> RuntimeState | None:
    """Hold the IMA list against the quoted PCRs (step 4); None if the policy does not ask."""
    return None


def judge_runtime(
    state: RuntimeState,  # noqa: ARG001 - soon
    rules: RuntimeRules,  # noqa: ARG001
) -> tuple[Finding, ...]:
    """Say what the proven entries are worth (step 5)."""
    return ()
