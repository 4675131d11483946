"""Judge an AI agent's request: every proof that this key is this agent's, on this device, allowed.

The order is that of the argument. A request is accepted only if

1. its class wants nothing that it does not show,
2. the nonce is ours, issued for this agent of this device,
3. its key signed the CSR, lives in the device's TPM (certified by the IAK for this nonce), and is
   not the attestation key,
4. the device is in a good state: fresh evidence passes the appraisal policy, or its newest result
   is affirming; a contraindicated device gets nothing,
5. the agent's files are those of the AIBOM it names, which its provider endorsed,
6. an owner that we know has signed this key, with a nonce of ours, and the binding has not ended,
7. it asks for no more than its class, the owner's binding and the owner's own bound allow.

What is shown and does not hold is refused even where the class could do without it. That the key is
no other holder's is for the store to say.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from attestation.capabilities import beyond
from attestation.errors import (
    IdentityMismatch,
    NotFresh,
    Unsupported,
    VerificationError,
)
from attestation.evidence import Evidence
from attestation.identity import AgentName, DeviceId
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult
from attestation.tpm.public import TpmPublic, parse_public, require_device_key
from attestation.tpm.templates import is_idevid_policy
from attestation.wire.agent_codec import AgentRequest, certify_purpose
from attestation.wire.jwk import algorithm_of, thumbprint
from attestation.wire.owner_binding import OwnerBinding, read_owner, verify_binding
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import Challenge
from verifier.appraisal.replay_cache import ReplayCache
from verifier.issuance.agent_state import StandingResult, StateTerms, judge_state
from verifier.issuance.certification import require_certified
from verifier.issuance.csr import require_csr_by
from verifier.issuance.enrolment_policy import AgentClass, ProofKind
from verifier.issuance.owners import Owner

_STRUCTURE = "agent request"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTerms:
    """What is asked of an agent.

    Attributes:
        device: The device it runs on, enrolled and not revoked.
        chosen: The agent's class.
        state: What the device's state is held against.
        owners: The owners known, by id.
        owner_challenge: Who judges the nonce in an owner's binding.
        accepted_binding: SHA-256 of the binding that the agent's newest certificate rests on; it
            may be shown again for its key. Empty without one.
    """

    device: Enrolment
    chosen: AgentClass
    state: StateTerms
    owners: Mapping[str, Owner]
    owner_challenge: Challenge
    accepted_binding: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedAgent:
    """An agent whose every proof held.

    Attributes:
        device: Its device.
        agent: Its name.
        chosen: The class that it was held against.
        public: The key to certify.
        proofs: Names of everything that was shown and held.
        nonce: The challenge that was answered.
        owner: Who is bound to it; empty without a binding.
        capabilities: What it is given: what it asked for.
        locator: Where it is reached.
        validation_methods: How a registry may have it prove itself.
        owner_until: When the owner's binding ends; None without one.
        result: The appraisal's result, to be recorded like any other; None without evidence.
        evidence: The evidence, whose log may be kept.
    """

    device: DeviceId
    agent: AgentName
    chosen: AgentClass
    public: TpmPublic
    proofs: tuple[str, ...]
    nonce: bytes = field(repr=False)
    owner: str
    capabilities: tuple[str, ...]
    locator: str
    validation_methods: tuple[str, ...]
    owner_until: datetime | None
    result: AttestationResult | None
    evidence: Evidence | None

    def lifetime(self, wanted: timedelta, at: datetime, until: datetime | None) -> timedelta:
        """Return how long its certificate lasts: never beyond the binding or the agent's own end.

        Args:
            wanted: By class or settings.
            at: Now (aware).
            until: When the agent is to be decommissioned; None for never.
        """
        ends = [moment - at for moment in (self.owner_until, until) if moment is not None]
        return min([wanted, *ends])


def agent_subject(device: DeviceId, agent: AgentName) -> str:
    """Return the subject to issue an agent's nonce to; no device id has a slash."""
    return f"agent/{device}/{agent}"


def owner_subject(device: DeviceId, agent: AgentName) -> str:
    """Return the subject to issue the nonce to that an owner signs."""
    return f"owner-binding/{device}/{agent}"


def judge_agent(
    request: AgentRequest,
    evidence: Evidence | None,
    *,
    challenge: Challenge,
    terms: AgentTerms,
    at: datetime,
    replays: ReplayCache | None = None,
) -> AcceptedAgent:
    """Judge one request.

    Args:
        request: As decoded from the wire.
        evidence: What is in it, decoded, with its firmware log; None without.
        challenge: Who judges the nonce; it was issued to :func:`agent_subject`.
        terms: What is asked.
        at: The moment of judgement (aware).
        replays: Remembers replayed logs.

    Raises:
        VerificationError: Of the first proof that does not hold.
        InputError: If something in the request is malformed.
    """
    chosen, device = terms.chosen, terms.device.device
    shown = _shown(request, terms.state.newest, at)
    _require_class(request, chosen)
    chosen.require_shown(shown)
    challenge.open(request.nonce, agent_subject(device, request.agent), at)
    public = _key(request, terms.device)
    result = judge_state(
        request,
        evidence,
        terms.device,
        terms.state,
        wanted=chosen.proofs,
        challenge=challenge,
        subject=agent_subject(device, request.agent),
        at=at,
        replays=replays,
    )
    binding = _binding(request, public, terms, at) if request.owner_binding else None
    _require_scope(request, binding, terms)
    return AcceptedAgent(
        device=device,
        agent=request.agent,
        chosen=chosen,
        public=public,
        proofs=tuple(sorted(kind.value for kind in _judged(request, chosen, shown))),
        nonce=request.nonce,
        owner=binding.owner if binding else "",
        capabilities=request.capabilities,
        locator=request.locator,
        validation_methods=request.validation_methods,
        owner_until=binding.expires_at if binding else None,
        result=result,
        evidence=evidence,
    )


def _require_class(request: AgentRequest, chosen: AgentClass) -> None:
    if request.agent_class not in ("", chosen.name):
        raise IdentityMismatch(
            RefusalCode.ENROLMENT_CLASS_UNKNOWN,
            f"agent {request.agent} is of class {chosen.name}, not of the one it asks for",
            structure=_STRUCTURE,
        )


def _shown(
    request: AgentRequest, newest: StandingResult | None, at: datetime
) -> frozenset[ProofKind]:
    """Return what a request shows; a standing result is shown by being there."""
    seen = {
        ProofKind.POP: bool(request.csr),
        ProofKind.RESIDENCY: request.certify is not None,
        ProofKind.EVIDENCE: bool(request.evidence),
        ProofKind.RESULT: newest is not None and at < newest.expires_at,
        ProofKind.AIBOM: bool(request.evidence and request.aibom),
        ProofKind.PROVIDER_ENDORSEMENT: bool(request.evidence and request.aibom),  # see _judged
        ProofKind.OWNER_BINDING: bool(request.owner_binding),
    }
    return frozenset(kind for kind, there in seen.items() if there)


def _judged(
    request: AgentRequest, chosen: AgentClass, shown: frozenset[ProofKind]
) -> frozenset[ProofKind]:
    """Return the proofs that were judged: the provider's word if wanted or sent along."""
    if ProofKind.PROVIDER_ENDORSEMENT in chosen.proofs or request.aibom_document:
        return shown
    return shown - {ProofKind.PROVIDER_ENDORSEMENT}


def _key(request: AgentRequest, device: Enrolment) -> TpmPublic:
    """Proof 3: return the agent's key."""
    public = parse_public(request.agent_public)
    try:
        algorithm_of(public.key)
    except ValueError as error:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM, f"an agent's key: {error}", structure="TPMT_PUBLIC"
        ) from error
    if public.name == device.ak_name or public.spki_der == device.ak.spki_der:
        raise IdentityMismatch(
            RefusalCode.KEY_ATTRIBUTES_WRONG,
            "the agent's key is the device's attestation key; make one of its own",
            structure="TPMT_PUBLIC",
        )
    if is_idevid_policy(public.auth_policy):
        raise IdentityMismatch(
            RefusalCode.KEY_ATTRIBUTES_WRONG,
            "the agent's key has the policy of an IDevID: it is a device's identity by its maker; "
            "make one of its own, of the LDevID's template",
            structure="TPMT_PUBLIC",
        )
    if request.csr:
        require_csr_by(request.csr, public)
    if request.certify is not None:
        require_device_key(public)
        require_certified(
            request.certify,
            device.ak,
            public,
            nonce=request.nonce,
            subject=certify_purpose(request.agent),
            other_key=RefusalCode.CERTIFY_MISMATCH,
        )
    return public


def _binding(
    request: AgentRequest, public: TpmPublic, terms: AgentTerms, at: datetime
) -> OwnerBinding:
    """Proof 6: return what the owner signed."""
    name = read_owner(request.owner_binding)
    owner = terms.owners.get(name)
    if owner is None:
        raise VerificationError(
            RefusalCode.OWNER_UNKNOWN,
            f"the binding is by {name!a}, whose key this verifier does not hold",
            structure="owner binding",
        )
    binding = verify_binding(
        request.owner_binding, owner.key, agent_thumbprint=thumbprint(public.key), at=at
    )
    digest = hashlib.sha256(request.owner_binding.encode()).digest()
    if terms.accepted_binding and hmac.compare_digest(digest, terms.accepted_binding):
        return binding
    try:
        terms.owner_challenge.open(
            binding.nonce, owner_subject(terms.device.device, request.agent), at
        )
    except NotFresh as error:
        late = error.code is RefusalCode.NONCE_EXPIRED
        code = RefusalCode.OWNER_BINDING_EXPIRED if late else RefusalCode.OWNER_BINDING_MISMATCH
        raise NotFresh(
            code,
            "the challenge that the owner signed is too old; let the owner sign a new request"
            if late
            else "the owner signed another challenge than one issued for this agent",
            structure="owner binding",
        ) from error
    return binding


def _require_scope(request: AgentRequest, binding: OwnerBinding | None, terms: AgentTerms) -> None:
    """Proof 7: refuse whoever asks for more than everyone allows; nothing is trimmed."""
    allowed = {f"class {terms.chosen.name}": terms.chosen.scope}
    if binding is not None:
        allowed["the owner's binding"] = binding.scope
        bound = terms.owners[binding.owner].scope
        if bound is not None:
            allowed[f"what owner {binding.owner} may give"] = bound
    more = beyond(request.capabilities, *allowed.values())
    if not more:
        return
    why = "; ".join(
        f"{', '.join(lacking)} not in {who}"
        for who, scope in allowed.items()
        if (lacking := beyond(more, scope))
    )
    raise VerificationError(
        RefusalCode.SCOPE_EXCEEDED, f"asked for more than is allowed: {why}", structure=_STRUCTURE
    )
