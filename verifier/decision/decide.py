"""From a result to a decision: the PDP document and what the policy engine makes of it.

The document holds the five kinds of attribute that a policy decision point needs of a device
(draft on agent security requirements, 5.6): root of trust, identifiers, affiliations, posture,
capabilities; beside them ``revoked``, ``now`` and a sequence number, so that a late document is
dropped and one that got stuck fails closed. A decision that is asked for also has the device's AI
agents, each with its own identifier, affiliation and capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult
from verifier.decision.engine import EngineFault, JsonObject, JsonValue, PolicyEngine

NO_DECISION: Final = (
    "no-decision: the policy gave no usable answer, so the answer is deny; "
    "check the decision policy with `verifier check`"
)
"""The reason given when the engine fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """An AI agent on a device whose certificate is in force.

    Attributes:
        name: Unique on that device.
        spiffe_id: Its workload identity.
        agent_class: The class of the enrolment policy.
        owner: Who is bound to it; empty if nobody.
        capabilities: What its credential allows it to do: its owner's word within policy.
    """

    name: str
    spiffe_id: str
    agent_class: str
    owner: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What the verifier knows of a device beside its results.

    Attributes:
        device: The device's id.
        revoked: Whether an operator revoked it.
        rot_type: Root of trust, e.g. ``tpm2.0``.
        anchor_sha256: The manufacturer's trust anchor.
        hardware_serial: The manufacturer's serial number (IDevID subject).
        ak_name: Name of the attestation key.
        spiffe_id: The device's workload identity.
        device_class: Chooses reference values and policy.
        owner: Whose device it is; empty if not bound.
        capabilities: What its credential allows it to do.
        agents: Its AI agents; None where nobody looked for them.
    """

    device: DeviceId
    revoked: bool
    anchor_sha256: bytes
    hardware_serial: str
    ak_name: bytes
    spiffe_id: str
    device_class: str = "default"
    rot_type: str = "tpm2.0"
    owner: str = ""
    capabilities: tuple[str, ...] = ()
    agents: tuple[AgentFacts, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy decision point answers about one device.

    Attributes:
        allow: Whether it allows.
        reasons: ``code: words`` each; empty when it allows.
        at: The moment of decision (aware).
    """

    allow: bool
    reasons: tuple[str, ...]
    at: datetime
    seq: int = field(default=0)

    @property
    def word(self) -> str:
        """``allow`` or ``deny``."""
        return "allow" if self.allow else "deny"


def pdp_document(
    facts: DeviceFacts,
    result: AttestationResult | None,
    at: datetime,
    *,
    expires_at: datetime | None,
    seq: int,
) -> JsonObject:
    """Return the PDP document of one device.

    Args:
        facts: What is known of the device.
        result: Its last attestation result; None if there is none.
        at: Now (aware); becomes ``now`` in epoch seconds.
        expires_at: Until when the result may be relied on; None if there is none.
        seq: Strictly increasing per device.
    """
    identifiers: JsonObject = {
        "device_id": facts.device,
        "hardware_serial": facts.hardware_serial,
        "ak_name": facts.ak_name.hex(),
        "spiffe_id": facts.spiffe_id,
    }
    affiliations: JsonObject = {"device_class": facts.device_class}
    if facts.owner:
        affiliations["owner"] = facts.owner
    document: JsonObject = {
        "rot": {"type": facts.rot_type, "anchor_sha256": facts.anchor_sha256.hex()},
        "identifiers": identifiers,
        "affiliations": affiliations,
        "capabilities": list(facts.capabilities),
        "revoked": facts.revoked,
        "now": int(at.timestamp()),
        "seq": seq,
    }
    if facts.agents is not None:
        document["agents"] = [_agent(one) for one in facts.agents]
    if result is not None and expires_at is not None:
        document["posture"] = _posture(result, at, expires_at)
    return document


def _agent(facts: AgentFacts) -> JsonObject:
    affiliations: JsonObject = {"agent_class": facts.agent_class}
    if facts.owner:
        affiliations["owner"] = facts.owner
    return {
        "identifiers": {"name": facts.name, "spiffe_id": facts.spiffe_id},
        "affiliations": affiliations,
        "capabilities": list(facts.capabilities),
    }


def _posture(result: AttestationResult, at: datetime, expires_at: datetime) -> JsonObject:
    vector: dict[str, JsonValue] = dict(result.vector.as_claims())
    reasons: list[JsonValue] = list(result.reasons)
    return {
        "status": result.status.label,
        "vector": vector,
        "policy_ids": [result.policy_id],
        "reference_set": result.reference_set,
        "iat": int(result.at.timestamp()),
        "exp": int(expires_at.timestamp()),
        "age_s": max(0, int((at - result.at).total_seconds())),
        "reasons": reasons,
    }


def decide(engine: PolicyEngine, document: Mapping[str, JsonValue], at: datetime) -> Decision:
    """Ask the engine; whatever is not a clear yes is a no.

    Args:
        engine: The loaded decision policy.
        document: From :func:`pdp_document`.
        at: Now (aware).

    Returns:
        The decision. The device's own reasons follow the policy's, so that a person sees why.
    """
    seq = document.get("seq")
    number = seq if isinstance(seq, int) else 0
    try:
        answer = engine.answer(document)
    except EngineFault:
        return Decision(allow=False, reasons=(NO_DECISION,), at=at, seq=number)
    if answer.allow and not answer.reasons:
        return Decision(allow=True, reasons=(), at=at, seq=number)
    reasons = answer.reasons or (NO_DECISION,)
    return Decision(allow=False, reasons=reasons + _device_reasons(document), at=at, seq=number)


def _device_reasons(document: Mapping[str, JsonValue]) -> tuple[str, ...]:
    posture = document.get("posture")
    told = posture.get("reasons") if isinstance(posture, dict) else None
    if not isinstance(told, list):
        return ()
    return tuple(dict.fromkeys(reason for reason in told if isinstance(reason, str)))


def absent(at: datetime) -> Decision:
    """Return the decision about a device that has no document at all."""
    return Decision(
        allow=False,
        reasons=(f"{RefusalCode.DEVICE_UNKNOWN}: this verifier knows no such device",),
        at=at,
    )
