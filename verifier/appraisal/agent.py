"""Steps 4 and 5 for the AI agent's own files: its log against PCR, AIBOM and endorsement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.pcr import PcrBanks
from attestation.result import Finding
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.freshness import FreshQuote
from verifier.reference_values.model import PcrKey, ReferenceLibrary


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRules:
    """``[agent]`` of an appraisal policy.

    Attributes:
        pcr: The PCR that the device agent extends with the AI agent's files.
    """

    pcr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """What the agent's log proves.

    Attributes:
        explained: The PCRs that the log leads to.
        faults: What is wrong with the log as a proof.
    """

    explained: frozenset[PcrKey]
    faults: tuple[PcrFault, ...] = ()


def agent_rules(table: Mapping[str, object]) -> AgentRules:
    """Read ``[agent]``; raises MalformedInput ``policy-invalid`` naming the key."""
    return AgentRules(pcr=int(str(table.get("pcr", "13"))))


def prove_agent(
    fresh: FreshQuote,  # noqa: ARG001 - soon
    values: PcrBanks,  # noqa: ARG001
    rules: AgentRules | None,  # noqa: ARG001
    reference: ReferenceLibrary,  # noqa: ARG001
) -> AgentState | None:
    """Hold the agent's log against the quoted PCR (step 4); None if the policy does not ask."""
    return None


def judge_agent(
    state: AgentState,  # noqa: ARG001 - soon
    rules: AgentRules,  # noqa: ARG001
) -> tuple[Finding, ...]:
    """Say what the proven files are worth (step 5)."""
    return ()
