"""Steps 4 to 7 of one kind of machine, remembered: the same state is judged the same way again.

Once a quote is proven fresh, what follows depends on the policy, the reference library, the PCR
values sent, the firmware log and what the quote says of PCRs; on nothing else, unless the policy
asks for logs of the running system or the agent. Machines of one kind agree in all of that, and
one machine from minute to minute.

A judgement is kept with the replayed log it was made of and goes with it. Only those are kept in
which every PCR agreed: they are small, and a device cannot make many of them.
"""

from __future__ import annotations

from attestation.result import AttestationResult
from verifier.appraisal.comparison import Comparison
from verifier.appraisal.freshness import FreshQuote
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import Judgement, JudgementKey, ReplayCache
from verifier.reference_values.model import ReferenceLibrary

_IDENTITY_STEPS = 3


def remembered(
    fresh: FreshQuote,
    policy: AppraisalPolicy,
    reference: ReferenceLibrary,
    replays: ReplayCache | None,
) -> Judgement | None:
    """Return the judgement of this very state by this very policy and library, if it is known.

    Args:
        fresh: From step 3.
        policy: The policy.
        reference: The library.
        replays: Where judgements are kept; None for nowhere.
    """
    authentic = fresh.bound.authentic
    log = authentic.evidence.firmware_log
    if replays is None or log is None or not _repeats(policy):
        return None
    judged = replays.get((log.digest, policy.banks))
    if judged is None:
        return None
    known = judged.judgements.get(_key(fresh, policy, reference))
    if known is None or known.sent != authentic.evidence.pcr_values:
        return None
    return known


def remember(
    result: AttestationResult,
    comparison: Comparison,
    policy: AppraisalPolicy,
    reference: ReferenceLibrary,
) -> None:
    """Keep a judgement for the next quote that shows the same state.

    Args:
        result: What was concluded.
        comparison: From step 5; holds the proven state.
        policy: The policy that was applied.
        reference: The library that was compared with.
    """
    state = comparison.state
    if (
        state.log is None
        or not _repeats(policy)
        or comparison.differing
        or any(fault.decides for fault in state.faults)
    ):
        return
    sent = state.fresh.bound.authentic.evidence.pcr_values
    state.log.keep(
        _key(state.fresh, policy, reference),
        Judgement(
            sent={bank: dict(values) for bank, values in sent.items()},
            steps=result.steps[_IDENTITY_STEPS:],
            findings=tuple(one for one in result.findings if one.step > _IDENTITY_STEPS),
            vector=result.vector,
            reference_set=result.reference_set,
            boot=result.boot,
        ),
    )


def _repeats(policy: AppraisalPolicy) -> bool:
    """Whether the policy asks for nothing that grows while a machine runs."""
    return policy.runtime is None and policy.agent is None


def _key(fresh: FreshQuote, policy: AppraisalPolicy, reference: ReferenceLibrary) -> JudgementKey:
    authentic = fresh.bound.authentic
    quoted = authentic.quoted
    return JudgementKey(
        policy.stamp,
        reference.stamp,
        authentic.scheme_hash,
        quoted.selections,
        quoted.pcr_digest,
    )
