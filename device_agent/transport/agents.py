"""What the verifier answers to requests for AI agents."""

from __future__ import annotations

from collections.abc import Mapping

from attestation.limits import MAX_WORKLOAD_TOKEN_CHARS
from device_agent.agent_ports import AgentChallenge, AgentReply, TokenReply
from device_agent.transport.answers import (
    begin_of,
    challenge_of,
    ima_next_of,
    moment_of,
    nonce_of,
    number_of,
    printable,
    strange,
    text_of,
    words_of,
)

_MOST_ID_CHARS = 2048


def challenge_reply(document: Mapping[str, object]) -> AgentChallenge:
    """Read the answer to ``POST /enrol/v1/agents/challenges``."""
    return AgentChallenge(
        challenge=challenge_of(document),
        agent_id=printable(text_of(document, "agent_id"), _MOST_ID_CHARS),
        agent_class=printable(text_of(document, "agent_class")),
        proofs=frozenset(words_of(document, "proofs")),
        scope=words_of(document, "scope"),
        owner_nonce=nonce_of(document, "owner_nonce"),
        owner_expires_in_s=number_of(document, "owner_expires_in_s"),
    )


def agent_reply(document: Mapping[str, object]) -> AgentReply:
    """Read the answer to ``POST /enrol/v1/agents``."""
    chain = text_of(document, "certificate_chain_pem")
    sent = document.get("ima_next") is not None
    return AgentReply(
        agent_id=printable(text_of(document, "agent_id"), _MOST_ID_CHARS),
        certificate_chain_pem=chain,
        not_before=begin_of(chain),
        not_after=moment_of(document, "not_after"),
        owner=printable(text_of(document, "owner")),
        capabilities=words_of(document, "capabilities"),
        token=token_reply(document),
        ima_next=ima_next_of(document) if sent else None,
    )


def token_reply(document: Mapping[str, object]) -> TokenReply:
    """Read a token and its end."""
    token = text_of(document, "token")
    if not 0 < len(token) <= MAX_WORKLOAD_TOKEN_CHARS:
        raise strange(f"has no token of 1 to {MAX_WORKLOAD_TOKEN_CHARS} characters")
    return TokenReply(token=token, expires_at=moment_of(document, "token_expires_at"))
