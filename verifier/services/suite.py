"""The services together, as a door needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from verifier.ports import Clock
from verifier.ports.authority import CertificateAuthority
from verifier.services.activations import CredentialActivations
from verifier.services.agent_tokens import AgentTokens
from verifier.services.agents import Agents
from verifier.services.attest import Attest
from verifier.services.challenge import Challenges
from verifier.services.decisions import Decisions
from verifier.services.devices import DeviceCache, Devices
from verifier.services.enrol import Enrol
from verifier.services.est import Est
from verifier.services.ocsp_responder import OcspResponder
from verifier.services.revocation_lists import RevocationLists
from verifier.services.status_lists import StatusLists


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What relying parties fetch.

    Attributes:
        authority: The CAs that issue.
        lists: Revocation lists.
        ocsp: OCSP answers.
        statuses: Status lists.
    """

    authority: CertificateAuthority
    lists: RevocationLists
    ocsp: OcspResponder
    statuses: StatusLists


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Every use case that HTTP serves.

    Attributes:
        clock: Now.
        cache: Devices in memory.
        challenges: Nonces.
        attest: Evidence.
        enrol: Enrolment.
        activations: Challenges by endorsement key.
        est: Enrolment and what belongs to it, as EST asks for it.
        agents: AI agents' enrolment.
        agent_tokens: Fresh tokens of agents and devices.
        devices: Results and history.
        decisions: Decisions.
        published: What relying parties fetch.
        key_set: Returns the JWKS at a moment.
        unready: Returns why the service cannot serve; empty when it can.
    """

    clock: Clock
    cache: DeviceCache
    challenges: Challenges
    attest: Attest
    enrol: Enrol
    activations: CredentialActivations
    est: Est
    agents: Agents
    agent_tokens: AgentTokens
    devices: Devices
    decisions: Decisions
    published: Published
    key_set: Callable[[datetime], dict[str, object]]
    unready: Callable[[], tuple[str, ...]]
