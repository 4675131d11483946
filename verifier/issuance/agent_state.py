"""The state of an AI agent's device, and of the agent's own files, when it asks for a certificate.

Fresh evidence is judged like any other. Without it the device's newest result stands. Whatever a
class wants, a contraindicated device's agents get nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from attestation.errors import IdentityMismatch, MalformedInput, NotFresh, VerificationError
from attestation.evidence import Evidence
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier
from attestation.wire.agent_codec import AgentRequest
from verifier.appraisal.agent import AGENT_MATCHED, measured_aibom
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import Challenge, ForSubject
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.issuance.contraindicated import evidence_refused
from verifier.issuance.enrolment_policy import ProofKind
from verifier.reference_values.aibom import AiBom, load_aibom, pack_aibom
from verifier.reference_values.model import ReferenceLibrary

_OF_FILES = frozenset({ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingResult:
    """The newest result of a device.

    Attributes:
        status: What it says.
        expires_at: Until when it is believed (aware).
        ear: The result as it was signed.
    """

    status: TrustTier
    expires_at: datetime
    ear: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTerms:
    """What a device's state is held against.

    Attributes:
        anchors: The manufacturers trusted.
        reference: The reference sets and AIBOMs that may apply.
        policy: The appraisal policy.
        accept: The worst status of fresh evidence that is let in.
        newest: The device's newest result; None without one.
        providers: PEM public keys or certificates of trusted providers, by name.
    """

    anchors: TrustAnchors
    reference: ReferenceLibrary
    policy: AppraisalPolicy
    accept: TrustTier = TrustTier.AFFIRMING
    newest: StandingResult | None = None
    providers: Mapping[str, str] = field(default_factory=dict)


def judge_state(
    request: AgentRequest,
    evidence: Evidence | None,
    device: Enrolment,
    terms: StateTerms,
    *,
    wanted: Collection[ProofKind],
    challenge: Challenge,
    subject: str,
    at: datetime,
    replays: ReplayCache | None,
) -> AttestationResult | None:
    """Judge the device's state and the agent's files.

    Returns:
        The result of the evidence; None if the standing result was enough.

    Raises:
        Contraindicated: ``evidence-not-acceptable`` whose quote is authentic and fresh.
        VerificationError: ``result-not-acceptable``, ``evidence-not-acceptable``,
            ``nonce-forged`` if the evidence answers another challenge, or what an AIBOM's
            endorsement lacks.
        InputError: If something is malformed.
    """
    _require_standing(
        terms, fresh=evidence is not None, affirming=ProofKind.RESULT in wanted, at=at
    )
    named = bool(request.aibom or request.aibom_document or request.provider_endorsement)
    if evidence is None:
        if named:
            raise _not_acceptable("an AIBOM is named, and no evidence shows that it is in force")
        return None
    if not hmac.compare_digest(evidence.nonce, request.nonce):
        raise NotFresh(
            RefusalCode.NONCE_FORGED,
            "the evidence answers another challenge than the request",
            structure="evidence",
        )
    brought = _brought(request, terms, at)
    reference = terms.reference
    if brought is not None:
        reference = replace(reference, aiboms={**reference.aiboms, brought.sha256: brought})
    for_us = ForSubject(challenge=challenge, subject=subject)
    result = appraise(
        evidence,
        challenge=for_us,
        enrolment=device,
        anchors=terms.anchors,
        reference=reference,
        policy=terms.policy,
        at=at,
        replays=replays,
    )
    if result.clock is None or result.status > terms.accept:
        raise evidence_refused(result, terms.accept, evidence, for_us)
    if named or not _OF_FILES.isdisjoint(wanted):
        _require_files(request, evidence, result, reference, wanted, terms.policy, at)
    return result


def _require_standing(terms: StateTerms, *, fresh: bool, affirming: bool, at: datetime) -> None:
    """Hold the newest result against what is wanted of it.

    Args:
        terms: Its worst status, and the result.
        fresh: Whether evidence is sent, so that the result is asked for only if ``affirming``.
        affirming: Whether the class wants an affirming result.
        at: Now (aware).

    Raises:
        VerificationError: ``result-not-acceptable``.
    """
    if fresh and not affirming:
        return
    newest = terms.newest
    if newest is None:
        raise _standing("there is none; attest first")
    worst = TrustTier.AFFIRMING if affirming else terms.accept
    if newest.status is TrustTier.NONE or newest.status > worst:
        raise _standing(f"it is {newest.status.label}, wanted {worst.label}")
    if at >= newest.expires_at:
        raise _standing(f"it ended at {newest.expires_at.isoformat()}; attest first")


def _brought(request: AgentRequest, terms: StateTerms, at: datetime) -> AiBom | None:
    """Return the AIBOM that a request brings along; it counts only with its provider's word.

    Raises:
        VerificationError, InputError: What its endorsement lacks, or ``aibom-…``.
    """
    if not request.aibom_document:
        return None
    if not hmac.compare_digest(hashlib.sha256(request.aibom_document).digest(), request.aibom):
        raise IdentityMismatch(
            RefusalCode.AIBOM_MALFORMED,
            "the AIBOM sent is not the one that 'aibom' names by digest",
            structure="AIBOM",
        )
    endorsement = request.provider_endorsement
    document = pack_aibom(
        _text(request.aibom_document), _text(endorsement) if endorsement else None
    )
    found = load_aibom(document, "the AIBOM in the request", terms.providers)
    require_endorsed(found, terms.policy, at)
    return found


def _require_files(
    request: AgentRequest,
    evidence: Evidence,
    result: AttestationResult,
    reference: ReferenceLibrary,
    wanted: Collection[ProofKind],
    policy: AppraisalPolicy,
    at: datetime,
) -> None:
    """Proof 5: the appraised files are those of the AIBOM named, which its provider endorsed."""
    if all(one.code != AGENT_MATCHED for one in result.findings):
        raise _not_acceptable(
            "the evidence does not show the AI agent's files to be as its AIBOM lists them. "
            + "; ".join(dict.fromkeys(result.reasons))
        )
    in_force = measured_aibom(evidence.agent_log) if evidence.agent_log is not None else None
    if in_force is None or not hmac.compare_digest(in_force, request.aibom):
        raise _not_acceptable("the device measured another AIBOM than the one that 'aibom' names")
    if ProofKind.PROVIDER_ENDORSEMENT in wanted:
        require_endorsed(reference.aiboms[in_force], policy, at)


def require_endorsed(aibom: AiBom, policy: AppraisalPolicy, at: datetime) -> None:
    """Check that a provider whom the policy admits has endorsed an AIBOM.

    Raises:
        VerificationError: With the code of what the endorsement lacks.
    """
    providers = policy.agent.providers if policy.agent is not None else ()
    refusal = aibom.endorsement.refusal(at, providers)
    if refusal is not None:
        code, reason = refusal
        raise VerificationError(code, f"AIBOM {aibom.name}: {reason}", structure="AIBOM")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MalformedInput(
            RefusalCode.AIBOM_MALFORMED,
            "an AIBOM or its endorsement is not UTF-8",
            structure="AIBOM",
        ) from error


def _standing(reason: str) -> VerificationError:
    return VerificationError(
        RefusalCode.RESULT_NOT_ACCEPTABLE, f"the device's newest result: {reason}", structure="EAR"
    )


def _not_acceptable(reason: str) -> VerificationError:
    return VerificationError(RefusalCode.EVIDENCE_NOT_ACCEPTABLE, reason, structure="evidence")
