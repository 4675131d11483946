"""AI agents: challenge, enrol, renew; each gets an identity of its own below its device's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from attestation.base64url import base64url_text
from attestation.errors import AttestationError, LimitExceeded, NotFresh
from attestation.identity import AgentName, agent_name
from attestation.limits import MAX_AGENTS_PER_DEVICE
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.agent_codec import AgentRequest, decode_agent
from attestation.wire.evidence_codec import decode_evidence
from attestation.wire.owner_binding import read_owner
from verifier.appraisal.freshness import ENTROPY_BYTES, issued_at
from verifier.appraisal.replay_cache import ReplayCache
from verifier.errors import ServiceError
from verifier.issuance.agent_certificates import agent_spiffe_id
from verifier.issuance.agent_state import StandingResult, StateTerms
from verifier.issuance.agents import (
    AcceptedAgent,
    AgentTerms,
    agent_subject,
    judge_agent,
    owner_subject,
)
from verifier.issuance.contraindicated import Contraindicated
from verifier.issuance.enrolment_terms import EnrolmentTerms
from verifier.issuance.owners import Owner, load_owner
from verifier.ports import DeviceRecord, DocumentKind, Store, StoredResult
from verifier.ports.credentials import (
    AgentRecord,
)
from verifier.services.agent_issue import (
    AgentCase,
    AgentIssue,
    AgentIssuing,
    Standing,
    require_alive,
)
from verifier.services.attest import Attest
from verifier.services.challenge import Challenges, Nonces
from verifier.services.contraindication import Contraindications
from verifier.services.enrol import SOMEBODY_ELSES


class Agents:
    """The use case.

    Args:
        store: Where agents are written.
        attest: Completes evidence, signs and decides on its result.
        challenges: Makes the device's challenges.
        nonces: Whose nonces are answered.
        owner_nonces: The same for owners' bindings, who take days to sign.
        owner_ttl: How long such a nonce may be answered.
        terms: What the owner of the fleet asks at a moment.
        replays: Logs replayed before.
        issuing: What certificates are made with.
    """

    def __init__(
        self,
        *,
        store: Store,
        attest: Attest,
        challenges: Challenges,
        nonces: Nonces,
        owner_nonces: Nonces,
        owner_ttl: timedelta,
        terms: Callable[[datetime], EnrolmentTerms],
        replays: ReplayCache,
        issuing: AgentIssuing,
    ) -> None:
        self._store = store
        self._attest = attest
        self._challenges = challenges
        self._nonces = nonces
        self._owner_nonces = owner_nonces
        self._owner_ttl = owner_ttl
        self._terms = terms
        self._replays = replays
        self._issuing = issuing
        self._issue = AgentIssue(store, attest, issuing)
        self._contraindications = Contraindications(store, attest)

    def challenge(self, device: DeviceRecord, name: str, at: datetime) -> dict[str, object]:
        """Return a challenge for one agent of a device, and what its class wants.

        Raises:
            InputError: ``agent-name-invalid``, or ``too-many`` for a device with that many agents.
            IdentityMismatch: ``enrolment-class-unknown``.
            NotAuthorised: ``agent-revoked``.
        """
        standing = self._standing(device, agent_name(name), self._terms(at), at)
        chosen, subject = standing.chosen, owner_subject(device.device, standing.name)
        entropy = self._issuing.entropy.take(ENTROPY_BYTES)
        return {
            **self._challenges.for_subject(agent_subject(device.device, standing.name), at),
            "agent_id": self._holder(device, standing.name),
            "agent_class": chosen.name,
            "proofs": sorted(kind.value for kind in chosen.proofs),
            "scope": list(chosen.scope),
            "owner_nonce": base64url_text(self._owner_nonces.current().issue(subject, at, entropy)),
            "owner_expires_in_s": self._owner_ttl.total_seconds(),
        }

    def enrol(self, device: DeviceRecord, message: bytes, at: datetime) -> dict[str, object]:
        """Judge a request, issue certificate and token, record the agent.

        Args:
            device: Who sends it, as the store has it now; not revoked.
            message: The request (CBOR).
            at: Now (aware).

        Raises:
            AttestationError: With the code of the first proof that does not hold.
            Conflict: If the key is another holder's, or something changed meanwhile.
            NotAuthorised: ``agent-revoked``.
        """
        request, terms = decode_agent(message), self._terms(at)
        standing = self._standing(device, request.agent, terms, at)
        evidence = (
            self._attest.with_log(decode_evidence(request.evidence)) if request.evidence else None
        )
        newest = self._store.newest_result(device.device)
        try:
            accepted = judge_agent(
                request,
                evidence,
                challenge=self._nonces.current(),
                terms=self._agent_terms(standing, request, terms, newest),
                at=at,
                replays=self._replays,
            )
        except Contraindicated as error:
            self._contraindications.record(error.against, request.evidence, at)
            raise
        _require_newer(accepted, standing.agent)
        case = AgentCase(standing=standing, request=request, accepted=accepted, newest=newest)
        try:
            answer = self._issue.issue(case, at)
        except (AttestationError, ServiceError) as error:
            if error.code in SOMEBODY_ELSES:
                # Of the device: it may think of any number of names, and would bury other alarms.
                why = f"agent {request.agent}: {error.reason}"
                with self._store.work() as work:
                    work.raise_alarm(error.code.value, device.device, why, at)
            raise
        self._issuing.enrolled()
        return answer

    def _standing(
        self, device: DeviceRecord, name: AgentName, terms: EnrolmentTerms, at: datetime
    ) -> Standing:
        agent = self._store.agent(device.device, name)
        if agent is not None:
            require_alive(agent, at)
        elif len(self._store.agents(device.device)) >= MAX_AGENTS_PER_DEVICE:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"device {device.device} has {MAX_AGENTS_PER_DEVICE} agents, revoked ones counted, "
                "and gets no more",
                structure="agent request",
            )
        chosen = terms.enrolment.agent_class(device.enrolment.device_class, name)
        accept = [
            one.accept
            for one in terms.enrolment.devices
            if one.name == device.enrolment.device_class
        ]
        return Standing(
            device=device,
            agent=agent,
            name=name,
            chosen=chosen,
            accept=accept[0] if accept else TrustTier.AFFIRMING,
        )

    def _holder(self, device: DeviceRecord, name: AgentName) -> str:
        return agent_spiffe_id(self._issuing.trust_domain, device.device, name)

    def _agent_terms(
        self,
        standing: Standing,
        request: AgentRequest,
        terms: EnrolmentTerms,
        newest: StoredResult | None,
    ) -> AgentTerms:
        providers = {one.name: one.document for one in self._store.documents(DocumentKind.PROVIDER)}
        return AgentTerms(
            device=standing.device.enrolment,
            chosen=standing.chosen,
            state=StateTerms(
                anchors=terms.anchors,
                reference=terms.reference,
                policy=terms.policy,
                accept=standing.accept,
                newest=StandingResult(
                    status=TrustTier(newest.status), expires_at=newest.expires_at, ear=newest.ear
                )
                if newest
                else None,
                providers=providers,
            ),
            owners=self._owners(request),
            owner_challenge=self._owner_nonces.current(),
            accepted_binding=self._accepted_binding(standing.agent),
        )

    def _owners(self, request: AgentRequest) -> Mapping[str, Owner]:
        """Return the owner that the request's binding names, if it is known."""
        if not request.owner_binding:
            return {}
        name = read_owner(request.owner_binding)
        return {
            one.name: load_owner(one.name, one.document)
            for one in self._store.documents(DocumentKind.OWNER)
            if one.name == name
        }

    def _accepted_binding(self, agent: AgentRecord | None) -> bytes:
        """Return the digest of the binding behind an agent's newest certificate, by the log."""
        stored = self._store.certificate(agent.certificate_sha256) if agent is not None else None
        if stored is None:
            return b""
        (entry,) = self._store.log_entries(after=stored.number - 1, limit=1)
        return bytes.fromhex(json.loads(entry.entry)["owner"])


def _require_newer(accepted: AcceptedAgent, agent: AgentRecord | None) -> None:
    """Refuse a request that was answered before (its nonce is stateless).

    Raises:
        NotFresh: ``nonce-reused``.
    """
    if agent is not None and issued_at(accepted.nonce) <= agent.enrolled_at:
        raise NotFresh(
            RefusalCode.NONCE_REUSED,
            f"agent {agent.name} was enrolled since this challenge; ask for a new one",
            structure="nonce",
        )
