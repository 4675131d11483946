"""Decisions: the PDP document of a device and what the policy makes of it, now."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from attestation.identity import DeviceId, device_id
from attestation.result import AttestationResult, Claim, Finding, TrustVector
from verifier.decision.decide import (
    AgentFacts,
    Decision,
    DeviceFacts,
    absent,
    decide,
    pdp_document,
)
from verifier.decision.engine import JsonObject, PolicyEngine
from verifier.issuance.profiles import spiffe_id
from verifier.ports import DeviceReader, DeviceRecord, StoredResult
from verifier.ports.credentials import AgentRecord, CredentialReader


class Reader(DeviceReader, CredentialReader, Protocol):
    """The store as far as decisions need it."""


class Decisions:
    """Asks the decision policy.

    Args:
        store: Where devices and results are.
        engine: The loaded decision policy.
        trust_domain: SPIFFE trust domain of issued identities.
    """

    def __init__(
        self,
        *,
        store: Reader,
        engine: PolicyEngine,
        trust_domain: str,
    ) -> None:
        self._store = store
        self._engine = engine
        self._trust_domain = trust_domain

    def on_result(
        self,
        record: DeviceRecord,
        result: AttestationResult,
        seq: int,
        at: datetime,
        expires_at: datetime,
    ) -> Decision:
        """Decide on a result that was just made and will be believed until ``expires_at``.

        The store is not asked: the document says nothing of AI agents.
        """
        document = self._document(record, result, seq, at, expires_at)
        return decide(self._engine, document, at)

    def now(self, name: str, at: datetime) -> tuple[Decision, JsonObject, StoredResult | None]:
        """Decide on a device, and the AI agents on it, as the store knows them now.

        Returns:
            The decision, the document it was made of (empty for an unknown device, which is
            denied), and the newest result.
        """
        device: DeviceId = device_id(name)
        record = self._store.device(device)
        if record is None:
            return absent(at), {}, None
        newest = self._store.newest_result(device)
        result, expires_at = (as_result(newest), newest.expires_at) if newest else (None, None)
        agents = tuple(map(_agent_facts, self._store.agents_in_force(device, at)))
        document = self._document(record, result, record.seq, at, expires_at, agents)
        return decide(self._engine, document, at), document, newest

    def _document(
        self,
        record: DeviceRecord,
        result: AttestationResult | None,
        seq: int,
        at: datetime,
        expires_at: datetime | None,
        agents: tuple[AgentFacts, ...] | None = None,
    ) -> JsonObject:
        facts = DeviceFacts(
            device=record.device,
            revoked=record.enrolment.revoked,
            anchor_sha256=record.enrolment.anchor_sha256,
            hardware_serial=record.hardware_serial,
            ak_name=record.enrolment.ak_name,
            spiffe_id=spiffe_id(self._trust_domain, record.device),
            device_class=record.enrolment.device_class,
            agents=agents,
        )
        return pdp_document(facts, result, at, expires_at=expires_at, seq=seq)


def _agent_facts(record: AgentRecord) -> AgentFacts:
    return AgentFacts(
        name=record.name,
        spiffe_id=record.holder,
        agent_class=record.agent_class,
        owner=record.owner,
        capabilities=record.capabilities,
    )


def as_result(stored: StoredResult) -> AttestationResult:
    """Return a stored result as a value the decision understands; only its reasons' words stay."""
    findings = []
    for line in stored.reasons:
        code, _, words = line.partition(": ")
        findings.append(
            Finding(
                code=code, claim=Claim.INSTANCE_IDENTITY, value=stored.status, reason=words, step=6
            )
        )
    return AttestationResult(
        device=stored.device,
        vector=TrustVector.from_claims(stored.vector),
        findings=tuple(findings),
        steps=(),
        policy_id=stored.policy_id,
        at=stored.at,
        evidence_digest=stored.evidence_sha256,
        reference_set=stored.reference_set or None,
    )
