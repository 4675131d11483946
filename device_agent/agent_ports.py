"""What AI agents' identities need of the world: Protocols, and the verifier's answers as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from device_agent.ports import ChallengeReply


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChallenge:
    """The verifier's challenge for one AI agent.

    Attributes:
        challenge: For the agent's request; lives for seconds.
        agent_id: The SPIFFE id that the agent will have.
        agent_class: Its class of the enrolment policy.
        proofs: What that class wants shown.
        scope: What it allows at most.
        owner_nonce: For what the owner signs; lives for days.
        owner_expires_in_s: How long, seconds.
    """

    challenge: ChallengeReply
    agent_id: str
    agent_class: str
    proofs: frozenset[str]
    scope: tuple[str, ...]
    owner_nonce: bytes = field(repr=False)
    owner_expires_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReply:
    """A workload identity token.

    Attributes:
        token: JWT, ``typ`` ``wit+jwt``; no bearer token: it names a key that must be proven.
        expires_at: When it ends (aware).
    """

    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReply:
    """What an accepted agent's request gives.

    Attributes:
        agent_id: The SPIFFE id in certificate and token.
        certificate_chain_pem: The agent's certificate first, then its issuers.
        not_before: When it begins; None if that cannot be read.
        not_after: When it ends (aware).
        owner: Who is bound to the agent; empty for nobody.
        capabilities: What it was given.
        token: A token over the same key.
        ima_next: The first IMA entry that the verifier wants next time; None if none were sent.
    """

    agent_id: str
    certificate_chain_pem: str
    not_before: datetime | None
    not_after: datetime
    owner: str
    capabilities: tuple[str, ...]
    token: TokenReply
    ima_next: int | None = None


class AgentsVerifier(Protocol):
    """The verifier's API for AI agents; TLS client key is the LDevID.

    Methods raise as those of :class:`device_agent.ports.VerifierClient`.
    """

    def agent_challenge(self, agent: str) -> AgentChallenge:
        """Ask for a challenge for one agent, and what its class wants."""
        ...

    def enrol_agent(self, message: bytes) -> AgentReply:
        """Send an agent's request (CBOR), for the first time or to renew."""
        ...

    def agent_token(self, agent: str, key: str, proof: str = "") -> TokenReply:
        """Ask for a fresh token over a certified key of the agent (RFC 7638 thumbprint).

        ``proof`` is by that key, for :meth:`token_target`; empty for none.
        """
        ...

    def token_target(self, agent: str) -> str:
        """Return the URI that :meth:`agent_token` asks."""
        ...
