"""The verifier's API over HTTPS, with TLS client keys that stay in the TPM.

Enrolment speaks as the IDevID (as the LDevID or as nobody where ``enrols_as`` says so),
attestation as the LDevID: one TLS context and one kept-alive connection each. What the verifier
answers is read strictly and bounded; its words are made safe to print before anyone prints them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, urlsplit

from attestation.errors import AttestationError
from attestation.identity import device_id
from attestation.wire import media_types
from device_agent.agent_ports import AgentChallenge, AgentReply, TokenReply
from device_agent.errors import (
    SettingsInvalid,
)
from device_agent.ports import (
    ActivationReply,
    ChallengeReply,
    EnrolmentReply,
    EvidenceReply,
    KeyRole,
)
from device_agent.transport import agents
from device_agent.transport.answers import (
    begin_of,
    challenge_of,
    flag_of,
    ima_next_of,
    moment_of,
    number_of,
    octets_of,
    printable,
    read_document,
    strange,
    text_of,
)
from device_agent.transport.connection import Answer, Connection, KeyFailure

Dress = Callable[[ssl.SSLContext, KeyRole], None]
"""Gives a TLS context the client certificate and TPM key of a role."""

_JSON: Final = {"Accept": f"application/json, {media_types.PROBLEM}"}
_MOST_REASONS: Final = 64

_AGENTS: Final = "/enrol/v1/agents"
_DEFAULT_PORT: Final = 443


class HttpsVerifier:
    """Implements :class:`device_agent.ports.VerifierClient`.

    Args:
        url: ``https://host[:port]``.
        ca_file: PEM file of the verifier's TLS authority; the only one believed.
        dress: Gives a TLS context our key and certificate of a role.
        key_failure: Says why a client key did not sign, if it did not.
        enrols_as: Says whose certificate an enrolment shows; None for none.
        connect_timeout_s: For TCP and handshake.
        read_timeout_s: For one whole exchange.
    """

    def __init__(
        self,
        *,
        url: str,
        ca_file: str,
        dress: Dress,
        key_failure: KeyFailure = lambda _context: None,
        enrols_as: Callable[[], KeyRole | None] = lambda: KeyRole.IDEVID,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        parts, self._url = urlsplit(url), url.rstrip("/")
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORT
        self._ca_file = ca_file
        self._dress = dress
        self._key_failure = key_failure
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._enrols_as = enrols_as
        self._connections: dict[KeyRole | None, Connection] = {}

    def enrols_as(self) -> KeyRole | None:
        """Say whose certificate the next enrolment shows: IDEVID, LDEVID, or None for none."""
        return self._enrols_as()

    def enrolment_challenge(self) -> ChallengeReply:
        """Ask for an enrolment challenge."""
        answer = self._post(self._enrols_as(), "/enrol/v1/challenges", b"", "", again=True)
        return challenge_of(read_document(answer))

    def begin_activation(self, message: bytes) -> ActivationReply:
        """Ask to be challenged by endorsement key."""
        answer = self._post(
            self._enrols_as(), "/enrol/v1/activations", message, media_types.ACTIVATION, again=True
        )
        return _activation(read_document(answer))

    def enrol(self, message: bytes) -> EnrolmentReply:
        """Send an enrolment request."""
        answer = self._post(
            self._enrols_as(), "/enrol/v1/requests", message, media_types.ENROLMENT, again=False
        )
        return _enrolment(read_document(answer))

    def challenge(self) -> ChallengeReply:
        """Ask for an attestation challenge, as the LDevID."""
        answer = self._post(KeyRole.LDEVID, "/attest/v1/challenges", b"", "", again=True)
        return challenge_of(read_document(answer))

    def submit(self, evidence: bytes) -> EvidenceReply:
        """Send evidence, as the LDevID."""
        answer = self._post(
            KeyRole.LDEVID, "/attest/v1/evidence", evidence, media_types.EVIDENCE, again=False
        )
        return _evidence(read_document(answer))

    def agent_challenge(self, agent: str) -> AgentChallenge:
        """Ask for a challenge for one AI agent, as the LDevID."""
        question = json.dumps({"agent": agent}).encode()
        path = f"{_AGENTS}/challenges"
        answer = self._post(KeyRole.LDEVID, path, question, "application/json", again=True)
        return agents.challenge_reply(read_document(answer))

    def enrol_agent(self, message: bytes) -> AgentReply:
        """Send an AI agent's request, as the LDevID."""
        answer = self._post(KeyRole.LDEVID, _AGENTS, message, media_types.AGENT, again=False)
        return agents.agent_reply(read_document(answer))

    def agent_token(self, agent: str, key: str, proof: str = "") -> TokenReply:
        """Ask for a fresh token of an AI agent, as the LDevID."""
        headers = {**_JSON, "Content-Type": "application/json"}
        if proof:
            headers["DPoP"] = proof
        answer = self.ask(
            KeyRole.LDEVID,
            "POST",
            _token_path(agent),
            body=json.dumps({"key": key}).encode(),
            headers=headers,
            again=not proof,  # a proof is taken once
        )
        return agents.token_reply(read_document(answer))

    def token_target(self, agent: str) -> str:
        """Return the URI that is asked for a token."""
        return self._url + _token_path(agent)

    def probe(self, role: KeyRole | None) -> tuple[datetime | None, str]:
        """Ask whether the verifier lives; for ``device-agent check``.

        Args:
            role: The identity to show; None for none.

        Returns:
            The verifier's clock from its Date header, and the TLS version.
        """
        connection = self._new_connection(role)
        try:
            answer = connection.exchange("GET", "/health/live", headers=_JSON, again=False)
            version = connection.tls_version
        finally:
            connection.close()
        try:
            return parsedate_to_datetime(answer.headers.get("date", "")), version
        except ValueError:
            return None, version

    def forget(self, role: KeyRole | None) -> None:
        """Drop connection and TLS context of a role: its certificate changed."""
        connection = self._connections.pop(role, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close connections."""
        for role in tuple(self._connections):
            self.forget(role)

    def ask(
        self,
        role: KeyRole | None,
        method: str,
        path: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        again: bool,
    ) -> Answer:
        """Send one request over the kept connection of an identity; raises as it does."""
        connection = self._connections.get(role)
        if connection is None:
            connection = self._connections[role] = self._new_connection(role)
        return connection.exchange(method, path, body=body, headers=headers, again=again)

    def _post(
        self, role: KeyRole | None, path: str, body: bytes, media_type: str, *, again: bool
    ) -> Answer:
        headers = {**_JSON, "Content-Type": media_type} if media_type else _JSON
        return self.ask(role, "POST", path, body=body, headers=headers, again=again)

    def _new_connection(self, role: KeyRole | None) -> Connection:
        return Connection(
            self._host,
            self._port,
            self._context(role),
            key_failure=self._key_failure,
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )

    def _context(self, role: KeyRole | None) -> ssl.SSLContext:
        context = server_context(self._ca_file, "verifier.ca_file")
        if role is not None:
            self._dress(context, role)
        return context


def _token_path(agent: str) -> str:
    return f"{_AGENTS}/{quote(agent, safe='')}/tokens"


def server_context(ca_file: str, setting: str) -> ssl.SSLContext:
    """Return a TLS client context that believes one authority only, TLS 1.2 or newer.

    Args:
        ca_file: PEM file.
        setting: The setting's name, for the message.

    Raises:
        SettingsInvalid: If the file cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"{setting} {ca_file} cannot be used: {error}") from error
    return context


def _activation(document: Mapping[str, object]) -> ActivationReply:
    inner = document.get("activation")
    if not isinstance(inner, dict):
        raise strange("holds no activation")
    return ActivationReply(
        activation=octets_of(inner, "id"),
        credential=octets_of(inner, "credential"),
        seed=octets_of(inner, "seed"),
        challenge=challenge_of(document),
    )


def _enrolment(document: Mapping[str, object]) -> EnrolmentReply:
    try:
        name = device_id(text_of(document, "device_id"))
    except AttestationError as error:
        raise strange("holds no device id") from error
    chain = text_of(document, "certificate_chain_pem")
    return EnrolmentReply(
        device_id=name,
        certificate_chain_pem=chain,
        not_after=moment_of(document, "not_after"),
        not_before=begin_of(chain),
        ima_next=ima_next_of(document),
    )


def _evidence(document: Mapping[str, object]) -> EvidenceReply:
    reasons, following = document.get("reasons"), document.get("next")
    if not isinstance(reasons, list) or not isinstance(following, dict):
        raise strange("has no reasons or no next challenge")
    return EvidenceReply(
        status=printable(text_of(document, "status"), 32),
        allowed=flag_of(document, "allow"),
        reasons=tuple(printable(reason) for reason in reasons[:_MOST_REASONS]),
        result=text_of(document, "result"),
        next=challenge_of(following),
        log_known=flag_of(document, "log_known"),
        attest_in_s=number_of(document, "attest_in_s"),
        ima_next=ima_next_of(document),
    )
