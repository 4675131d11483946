"""A reference set from an event log alone: the PCR values that its events lead to."""

from __future__ import annotations

import hashlib
from datetime import datetime

from attestation.errors import VerificationError
from verifier.appraisal.policy import AppraisalPolicy
from verifier.appraisal.replay_cache import judge_log
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceSet


def set_of_log(
    content: bytes,
    name: str,
    at: datetime,
    policy: AppraisalPolicy,
    older: ReferenceSet | None,
) -> ReferenceSet:
    """Make a set of what a firmware log's events lead to; it waits for a review.

    Args:
        content: The log.
        name: The set's name.
        at: Now (aware).
        policy: Says which PCRs are learnt.
        older: The newest version of the set, if there is one.

    Raises:
        InputError: If it is not a firmware log, or does not cover the policy's PCRs.
        VerificationError: If it lacks a bank that the policy asks for, or contradicts itself.
    """
    judged = judge_log(content, tuple(selection.bank for selection in policy.selections))
    for problem in judged.missing_banks.values():
        raise VerificationError(problem.code, problem.reason)
    return learn(
        name,
        judged.replayed,
        judged.replayed.pcrs,
        policy.selections,
        at,
        version=older.version + 1 if older else 1,
        older=older,
        description=f"learnt from the firmware log {hashlib.sha256(content).hexdigest()}",
    )
