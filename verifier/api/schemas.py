"""JSON documents at the door, strict, for validation and for OpenAPI."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemDocument(_Document):
    """RFC 9457 problem details."""

    type: str = Field(description="Where the problem is explained: /problems/<code>")
    title: str
    status: int
    code: str = Field(description="Stable code; docs/refusals.md explains each")
    detail: str
    instance: str = Field(description="urn:request:<X-Request-ID>")
    missing: list[str] | None = Field(
        default=None, description="Proofs that an enrolment lacks, by name; only where some do"
    )


class ChallengeDocument(_Document):
    """A challenge to be answered once."""

    nonce: str = Field(description="base64url without padding")
    pcr_selection: str = Field(examples=["sha256:0,1,2,3,4,5,6,7"])
    expires_in_s: float


class CredentialDocument(_Document):
    """What a TPM is given to prove that attestation key and endorsement key live in it."""

    id: str = Field(description="Opaque; to be sent with the answer. base64url without padding")
    credential: str = Field(description="TPM2B_ID_OBJECT, base64url without padding")
    seed: str = Field(description="TPM2B_ENCRYPTED_SECRET, base64url without padding")
    expires_in_s: float


class ActivationDocument(ChallengeDocument):
    """A challenge by endorsement key, beside the challenge that the enrolment answers."""

    activation: CredentialDocument


class EnrolmentDocument(_Document):
    """What an accepted enrolment gives."""

    device_id: str
    device_uri: str = Field(description="The SPIFFE id in certificate and token")
    token: str = Field(description="Workload identity token (JWT, typ wit+jwt)")
    token_expires_at: str = Field(description="RFC 3339")
    certificate_chain_pem: str = Field(description="LDevID certificate first, then its issuer")
    not_after: str = Field(description="RFC 3339")
    result: str = Field(description="Attestation result of the enrolment evidence (EAR as JWT)")
    ima_next: int = Field(description="The first IMA entry to send next time")


class AgentChallengeQuestion(_Document):
    """Which agent a challenge is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    agent: str = Field(max_length=63)


class AgentChallengeDocument(ChallengeDocument):
    """A challenge for one AI agent, and one that its owner signs."""

    agent_id: str = Field(description="The SPIFFE id that it will have")
    agent_class: str
    proofs: list[str] = Field(description="What its class wants shown")
    scope: list[str] = Field(description="What its class allows at most")
    owner_nonce: str = Field(description="base64url; for the owner's binding only")
    owner_expires_in_s: float


class AgentDocument(_Document):
    """What an enrolled AI agent gets."""

    device_id: str
    agent: str
    agent_id: str = Field(description="The SPIFFE id in certificate and token")
    agent_class: str
    certificate_chain_pem: str = Field(description="The agent's certificate first")
    not_after: str = Field(description="RFC 3339")
    owner: str
    capabilities: list[str]
    locator: str
    validation_methods: list[str]
    token: str = Field(description="Workload identity token (JWT, typ wit+jwt)")
    token_expires_at: str = Field(description="RFC 3339")
    result: str = Field(description="Attestation result that it rests on (EAR as JWT)")
    ima_next: int | None = Field(description="The first IMA entry to send; null without evidence")


class AgentTokenQuestion(_Document):
    """Which key a token shall name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str = Field(default="", max_length=43, description="RFC 7638 thumbprint; empty: newest")


class AgentTokenDocument(_Document):
    """A fresh token of an AI agent."""

    agent_id: str
    token: str = Field(description="Workload identity token (JWT, typ wit+jwt)")
    token_expires_at: str = Field(description="RFC 3339")


class DeviceTokenDocument(_Document):
    """A fresh token of a device."""

    device_id: str
    token: str = Field(description="Workload identity token (JWT, typ wit+jwt)")
    token_expires_at: str = Field(description="RFC 3339")


class EvidenceDocument(_Document):
    """What a device is told about its evidence."""

    status: str = Field(examples=["affirming", "warning", "contraindicated", "none"])
    allow: bool
    reasons: list[str]
    vector: dict[str, int] = Field(description="AR4SI trustworthiness claims")
    result: str = Field(description="EAR as JWT (ES256)")
    next: ChallengeDocument
    log_known: bool = Field(description="Whether the firmware log may be sent as a digest now")
    ima_next: int = Field(description="The first IMA entry to send next time; 0 is the whole list")
    attest_in_s: float


class ResultDocument(_Document):
    """One attestation result."""

    seq: int
    at: str
    expires_at: str
    expired: bool
    status: str
    vector: dict[str, int]
    reasons: list[str]
    allow: bool = Field(description="The decision when the result was made")
    policy_id: str
    reference_set: str
    evidence_sha256: str
    ear: str


class DeviceDocument(_Document):
    """One device with its newest result."""

    device_id: str
    device_class: str
    hardware_serial: str
    ak_name: str
    enrolled_at: str
    certificate_not_after: str
    decommission_at: str | None = Field(description="When it is revoked for good; null for never")
    revoked: bool
    revoked_reason: str
    result: ResultDocument | None


class DevicePage(_Document):
    """Devices in order of id."""

    devices: list[DeviceDocument]
    next: str = Field(description="Pass as ?after= for the next page; empty at the end")


class ChangeDocument(_Document):
    """What changed from one result to the next."""

    at: str
    from_: str = Field(alias="from")
    to: str
    appeared: list[str] = Field(description="Codes of reasons that were not there before")
    disappeared: list[str]
    claims: dict[str, list[int]] = Field(description="Claim values before and after")
    why: str = Field(description="The first new reason")


class HistoryDocument(_Document):
    """How the listed results developed."""

    status: str | None
    since: str | None = Field(description="The first of the newest results with this status")
    last_good_at: str | None = Field(description="When the device was affirming for the last time")
    last_good_until: str | None
    stale_for_s: float = Field(description="For how long the newest result has been expired")
    in_grace: bool
    complete: bool = Field(description="Whether these are all results of the device")
    changes: list[ChangeDocument]


class HistoryPage(_Document):
    """Results of one device, newest first."""

    device_id: str
    results: list[ResultDocument]
    summary: HistoryDocument | None = Field(description="Of the first page; null on later ones")
    next: int = Field(description="Pass as ?before= for the next page; 0 at the end")


class DecisionDocument(_Document):
    """What the policy says about a device now."""

    device_id: str
    allow: bool
    decision: str = Field(examples=["allow", "deny"])
    reasons: list[str]
    at: str
    document: dict[str, object] = Field(description="The PDP document that was judged")


class _Entity(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Subject(_Entity):
    """AuthZEN subject; only ``device`` is known here."""

    type: str
    id: str
    properties: dict[str, object] | None = None


class Resource(_Entity):
    """AuthZEN resource."""

    type: str
    id: str
    properties: dict[str, object] | None = None


class Action(_Entity):
    """AuthZEN action."""

    name: str
    properties: dict[str, object] | None = None


class EvaluationRequest(_Entity):
    """OpenID AuthZEN 1.0 access evaluation request."""

    subject: Subject
    action: Action
    resource: Resource
    context: dict[str, object] | None = None


class EvaluationResponse(_Document):
    """OpenID AuthZEN 1.0 access evaluation response."""

    decision: bool
    context: dict[str, object]
