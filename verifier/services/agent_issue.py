"""Issue to an AI agent whose every proof held: certificate, record, log entry, then the token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.agent_certificate import AgentClaims
from attestation.errors import NotFresh
from attestation.identity import AgentName
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.agent_codec import AgentRequest
from verifier.errors import Conflict, NotAuthorised
from verifier.issuance.agent_certificates import agent_certificate, agent_spiffe_id
from verifier.issuance.agents import AcceptedAgent
from verifier.issuance.certificate_profile import CertificateProfile, Profiles
from verifier.issuance.enrolment_policy import AgentClass
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.ports import DeviceRecord, Entropy, Judgement, Store, StoredResult
from verifier.ports.credentials import (
    AgentRecord,
    CredentialKind,
    IssuedCertificate,
    StoredCertificate,
)
from verifier.services.attest import Attest, next_entry
from verifier.services.decommission import earliest, planned_end
from verifier.services.issue import issued_entry, record_of
from verifier.services.workload_tokens import WorkloadTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIssuing:
    """What certificates of agents are made with.

    Attributes:
        issuer: Returns the CA that signs now.
        profiles: Certificate profiles by name.
        tokens: Makes the token beside the certificate.
        entropy: For nonces and serial numbers.
        trust_domain: Of issued identities.
        lifetime: Of certificates whose class does not say.
        enrolled: Called after each enrolment (counters, outbox).
    """

    issuer: Callable[[], Issuer]
    profiles: Profiles
    tokens: WorkloadTokens
    entropy: Entropy
    trust_domain: str
    lifetime: timedelta
    enrolled: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of an agent before its request is judged.

    Attributes:
        device: Its device, as the store has it now.
        agent: What was recorded of it; None for a new one.
        name: Its name.
        chosen: Its class.
        accept: The worst status of evidence that its device's class lets in.
    """

    device: DeviceRecord
    agent: AgentRecord | None
    name: AgentName
    chosen: AgentClass
    accept: TrustTier


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCase:
    """A request that was accepted, and what it rests on.

    Attributes:
        standing: What was known before.
        request: As decoded.
        accepted: As judged.
        newest: The device's newest result before this request; None without one.
    """

    standing: Standing
    request: AgentRequest
    accepted: AcceptedAgent
    newest: StoredResult | None


class AgentIssue:
    """Makes and records.

    Args:
        store: Where agents are written.
        attest: Signs and decides on the result of evidence.
        issuing: What certificates are made with.
    """

    def __init__(self, store: Store, attest: Attest, issuing: AgentIssuing) -> None:
        self._store = store
        self._attest = attest
        self._issuing = issuing

    def issue(self, case: AgentCase, at: datetime) -> dict[str, object]:
        """Make certificate and token, write everything, and return the answer.

        Raises:
            NotFresh: ``owner-binding-expired`` if the binding ends before a certificate may.
            Conflict: If the key is another holder's, or device or agent changed meanwhile.
        """
        accepted, device = case.accepted, case.standing.device
        issuer, profile = self._issuing.issuer(), self._issuing.profiles[accepted.chosen.profile]
        ends = planned_end(case.standing.agent, accepted.chosen.decommission, at)
        until = earliest(ends, device.decommission_at)
        certificate = self._certificate(accepted, issuer, profile, until, at)
        issued = record_of(
            certificate,
            device=accepted.device,
            holder=agent_spiffe_id(self._issuing.trust_domain, device.device, accepted.agent),
            profile=profile.name,
            issuer=issuer.certificate,
            kind=CredentialKind.AGENT,
            agent=accepted.agent,
        )
        draft = None
        if accepted.result is not None and accepted.evidence is not None:
            draft = self._attest.sign(
                device, accepted.result, accepted.evidence, case.request.evidence, at
            )
        judgement = self._attest.finish(draft) if draft else None
        number = self._write(case, issued, judgement, ends, at)
        if draft is not None and judgement is not None:
            self._attest.settled(draft, judgement)
        pem = b"".join(
            one.public_bytes(Encoding.PEM)
            for one in (certificate, issuer.certificate, *issuer.chain)
        )
        token = self._issuing.tokens.issue(StoredCertificate(certificate=issued, number=number), at)
        rest = judgement.result if judgement else case.newest
        return {
            "device_id": accepted.device,
            "agent": accepted.agent,
            "agent_id": issued.holder,
            "agent_class": accepted.chosen.name,
            "certificate_chain_pem": pem.decode(),
            "not_after": issued.not_after.isoformat().replace("+00:00", "Z"),
            "owner": accepted.owner,
            "capabilities": list(accepted.capabilities),
            "locator": accepted.locator,
            "validation_methods": list(accepted.validation_methods),
            **token.document(),
            "result": rest.ear if rest else "",
            "ima_next": next_entry(draft.result, judgement.progress or device.enrolment.progress)
            if draft and judgement
            else None,
        }

    def _certificate(
        self,
        accepted: AcceptedAgent,
        issuer: Issuer,
        profile: CertificateProfile,
        until: datetime | None,
        at: datetime,
    ) -> x509.Certificate:
        """Sign the certificate.

        Raises:
            NotFresh: ``owner-binding-expired`` if binding, agent or device end before a
                certificate may.
        """
        wanted = accepted.chosen.lifetime or self._issuing.lifetime
        lifetime = accepted.lifetime(wanted, at, until)
        if lifetime < profile.shortest:
            raise NotFresh(
                RefusalCode.OWNER_BINDING_EXPIRED,
                f"the owner's binding, the agent or its device ends within {lifetime}; "
                f"certificates of profile {profile.name} last {profile.shortest} at least",
                structure="owner binding",
            )
        return agent_certificate(
            accepted.device,
            accepted.agent,
            accepted.public.key,
            issuer,
            claims=AgentClaims(
                owner=accepted.owner,
                capabilities=accepted.capabilities,
                locator=accepted.locator,
                validation_methods=accepted.validation_methods,
            ),
            trust_domain=self._issuing.trust_domain,
            serial=certificate_serial(self._issuing.entropy.take(SERIAL_ENTROPY_BYTES)),
            at=at,
            lifetime=lifetime,
            profile=profile,
        )

    def _write(
        self,
        case: AgentCase,
        issued: IssuedCertificate,
        judgement: Judgement | None,
        ends: datetime | None,
        at: datetime,
    ) -> int:
        """Write certificate, agent and result in one transaction; returns the log's number.

        Raises:
            Conflict: If the device was judged anew or revoked since it was looked at, the agent
                changed, or the key is another holder's.
        """
        accepted, device = case.accepted, case.standing.device
        rest = judgement.result if judgement else case.newest
        entry = issued_entry(
            issued,
            ear=rest.ear.encode() if rest else b"",
            owner=case.request.owner_binding.encode(),
            proofs=accepted.proofs,
        )
        entry["evidence"] = rest.evidence_sha256.hex() if rest else ""
        with self._store.work() as work:
            work.hold_device(device.device, device.version)
            number = work.issue(issued, entry, at)
            work.supersede(issued, at + accepted.chosen.overlap, at)
            work.put_agent(_record(case, issued, ends, at))
            if judgement is not None and not all(work.record([judgement])):
                raise Conflict(
                    RefusalCode.CONFLICT, f"device {device.device} changed meanwhile; try again"
                )
        return number


def require_alive(agent: AgentRecord, at: datetime) -> None:
    """Check that an agent is neither revoked nor past its end.

    Raises:
        NotAuthorised: ``agent-revoked``.
    """
    ended = agent.decommission_at is not None and at >= agent.decommission_at
    if agent.revoked_reason or ended:
        why = agent.revoked_reason or "its time is over"
        raise NotAuthorised(
            RefusalCode.AGENT_REVOKED, f"agent {agent.name} of device {agent.device}: {why}"
        )


def _record(
    case: AgentCase, issued: IssuedCertificate, ends: datetime | None, at: datetime
) -> AgentRecord:
    accepted, before = case.accepted, case.standing.agent
    return AgentRecord(
        device=accepted.device,
        name=accepted.agent,
        agent_class=accepted.chosen.name,
        holder=issued.holder,
        owner=accepted.owner,
        capabilities=accepted.capabilities,
        locator=accepted.locator,
        validation_methods=accepted.validation_methods,
        certificate_sha256=issued.sha256,
        certificate_not_after=issued.not_after,
        enrolled_at=at,
        decommission_at=ends,
        decommission_told=before is not None and before.decommission_told,
        version=before.version if before else 0,
    )
