"""Looks after the AI agents below a device: adds, renews, refreshes, removes.

The daemon tends them after each judgement of the device; the commands of ``device-agent agent`` do
single steps. Both hold the shelf's lock while they work, so that they may run beside each other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Final, Protocol

from cryptography import x509

from attestation.identity import AgentName
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public
from attestation.wire.owner_binding import BindingRequest
from device_agent import agents, telemetry
from device_agent.agent_ports import AgentChallenge, AgentReply, AgentsVerifier, TokenReply
from device_agent.agent_request import awaits_owner, binding_request, build_agent_request
from device_agent.agents import MOST_AGENTS, AgentRecord, Due, TendingDone, Wish
from device_agent.collector import Sources
from device_agent.errors import (
    CertificateUnusable,
    DeviceAgentError,
    SettingsInvalid,
    StateCorrupt,
    StateUnwritable,
    VerifierRefused,
    VerifierUnreachable,
)
from device_agent.lifecycle import (
    Fault,
    Moment,
)
from device_agent.pacing import Pacing
from device_agent.ports import AgentKeys
from device_agent.state.files import StateHeld
from device_agent.telemetry import Log

MOST_AT_ONCE: Final = 8
"""Agents served between two attestations of the device."""

_WAIT_FOR_LOCK_S: Final = 10.0
_FALLEN: Final = frozenset(
    {
        RefusalCode.AGENT_UNKNOWN,
        RefusalCode.CERTIFICATE_EXPIRED,
        RefusalCode.CERTIFICATE_REVOKED,
    }
)
"""Refusals of a token that say: no certificate of this key stands any more."""


class Shelf(Protocol):
    """Where agents' records are kept (:class:`device_agent.state.agents.AgentShelf`)."""

    def held(self, wait_s: float = 0) -> AbstractContextManager[None]:
        """Keep daemon and commands apart."""
        ...

    def names(self) -> tuple[AgentName, ...]:
        """Return the agents that have a record."""
        ...

    def load(self, name: AgentName) -> AgentRecord:
        """Read a record."""
        ...

    def save(self, record: AgentRecord) -> None:
        """Write a record, and put out certificate and token."""
        ...

    def put_out(self, record: AgentRecord) -> None:
        """Put certificate and token where the agent finds them."""
        ...

    def remove(self, name: AgentName) -> None:
        """Remove all that is kept of an agent."""
        ...


class AgentTender:
    """Looks after the agents of one device, which speaks as its LDevID.

    Args:
        sources: TPM, logs and host facts.
        keys: The TPM as it holds agents' keys.
        verifier: The verifier.
        shelf: The records.
        pacing: Schedules.
        now: Clocks and dice.
        aibom_digest: Returns the SHA-256 of the AIBOM that the agent is measured against.
        log: The daemon's log.
        pulse: Called between the parts, so that a watchdog sees progress.
    """

    def __init__(
        self,
        *,
        sources: Sources,
        keys: AgentKeys,
        verifier: AgentsVerifier,
        shelf: Shelf,
        pacing: Pacing,
        now: Callable[[], Moment],
        aibom_digest: Callable[[], bytes],
        log: Log,
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        self._sources = sources
        self._keys = keys
        self._verifier = verifier
        self._shelf = shelf
        self._pacing = pacing
        self._now = now
        self._aibom_digest = aibom_digest
        self._log = log
        self._pulse = pulse

    # --- the daemon ------------------------------------------------------------------------
    def tend(self, *, anew: bool = False) -> TendingDone:
        """Do what is due for every agent; what fails is noted in its record and tried later.

        The device's own attestation waits meanwhile: so a few agents are served at once, and none
        while the verifier is not reached. The others have their turn after the next judgement.

        Args:
            anew: Ask for a token of every agent now: where its certificate does not stand any
                more, that is found out, and it gets another.
        """
        done = TendingDone()
        try:
            with self._shelf.held():
                for name in self._shelf.names():
                    if isinstance(done.fault, VerifierUnreachable):
                        break
                    if done.served >= MOST_AT_ONCE and not anew:
                        break
                    self._pulse()
                    done = self._tend_one(name, done, anew=anew)
        except StateHeld:
            # A command is at work; the next judgement comes soon enough.
            return done
        except DeviceAgentError as error:
            return replace(done, fault=done.fault or error)
        return done

    def _tend_one(self, name: AgentName, before: TendingDone, *, anew: bool) -> TendingDone:
        try:
            record = self._shelf.load(name)
            due = agents.due(record, self._now().at)
            if anew and due is Due.NOTHING and record.certified is not None:
                due = Due.TOKEN
            if due is not Due.NOTHING:
                before = replace(before, served=before.served + 1)
            match due:
                case Due.CERTIFICATE:
                    return self._renew_due(record, before)
                case Due.TOKEN:
                    return self._refresh(record, before)
                case Due.NOTHING:
                    self._shelf.put_out(record)
        except DeviceAgentError as error:
            return replace(before, fault=before.fault or error)
        return before

    def _renew_due(self, record: AgentRecord, before: TendingDone) -> TendingDone:
        try:
            challenge = self._verifier.agent_challenge(record.name)
            done, attested, ima_next = self._enrol(record, challenge)
        except DeviceAgentError as error:
            self._note(record, error)
            return replace(before, fault=before.fault or error, attested=True)
        if done.certified is not None:
            until = done.certified.not_after.isoformat()
            self._log.info(telemetry.AGENT_RENEWED, agent=record.name, not_after=until)
        return replace(
            before,
            attested=before.attested or attested,
            ima_next=before.ima_next if ima_next is None else ima_next,
        )

    def _refresh(self, record: AgentRecord, before: TendingDone) -> TendingDone:
        try:
            token = self._token(record)
        except VerifierRefused as error:
            if error.code in _FALLEN:
                # Its certificate is revoked, mostly with its device's: well again, it gets another.
                return self._renew_due(record, before)
            self._note(record, error)
            raise
        except DeviceAgentError as error:
            self._note(record, error)
            raise
        self._shelf.save(agents.refreshed(record, token, self._now()))
        return before

    def _token(self, record: AgentRecord) -> TokenReply:
        """Ask for a token, and prove the agent's key where its class wants that."""
        try:
            return self._verifier.agent_token(record.name, record.thumbprint)
        except VerifierRefused as error:
            if error.code != RefusalCode.PROOFS_MISSING:
                raise
        from device_agent.token_proof import token_proof  # noqa: PLC0415 - a megabyte; few need it

        nonce = self._verifier.agent_challenge(record.name).challenge.nonce
        self._pulse()
        target = self._verifier.token_target(record.name)
        proof = token_proof(self._keys, record.key, target=target, nonce=nonce, at=self._now().at)
        return self._verifier.agent_token(record.name, record.thumbprint, proof)

    def _note(self, record: AgentRecord, error: DeviceAgentError) -> None:
        """Write down that a request failed, and when to try again."""
        now = self._now()
        fault = Fault(code=str(error.code), reason=error.reason, at=now.at)
        try:
            self._shelf.save(agents.failed(record, fault, now, self._pacing))
        except StateUnwritable as unwritable:
            self._log.warning(telemetry.STATE_UNWRITABLE, reason=unwritable.reason)

    # --- single steps ----------------------------------------------------------------------
    def add(self, name: AgentName, wish: Wish) -> AgentRecord | BindingRequest:
        """Begin to add an agent: its key now; its certificate is for :meth:`enrol` or the daemon.

        Args:
            name: Unique on this device.
            wish: What it asks for; an owner's binding goes with the key that was made before.

        Returns:
            The record, to be enrolled now; or what the owner has to sign first.

        Raises:
            SettingsInvalid: If it has its certificate already, or there are too many agents.
            DeviceAgentError: If any part fails; the key that was made is kept for the next try.
        """
        with self._shelf.held(_WAIT_FOR_LOCK_S):
            return self._ask(self._begun(name, wish))

    def renew(self, name: AgentName, wish: Callable[[Wish], Wish]) -> AgentRecord | BindingRequest:
        """Ask for a new certificate for an agent, for :meth:`enrol` or the daemon to get.

        Args:
            name: The agent.
            wish: Returns what it asks for from now on, given what it asked for before.

        Returns:
            As :meth:`add`.

        Raises:
            AgentUnknown: If there is no such agent.
            DeviceAgentError: If any part fails; the certificate that it has stays.
        """
        with self._shelf.held(_WAIT_FOR_LOCK_S):
            record = self._shelf.load(name)
            return self._ask(replace(record, wish=wish(record.wish)))

    def enrol(self, name: AgentName) -> AgentRecord:
        """Get an agent's certificate now.

        Nothing else may attest for this device at the same time: hold the state directory.

        Raises:
            AgentUnknown: If there is no such agent.
            VerifierRefused: With the verifier's code.
            DeviceAgentError: If any other part fails; it is noted in the record.
        """
        with self._shelf.held(_WAIT_FOR_LOCK_S):
            record = self._shelf.load(name)
            try:
                return self._enrol(record, self._verifier.agent_challenge(name))[0]
            except DeviceAgentError as error:
                self._note(replace(record, asked=False), error)
                raise

    def _ask(self, record: AgentRecord) -> AgentRecord | BindingRequest:
        """Write down that a certificate is asked for, unless the owner has to sign first."""
        challenge = self._verifier.agent_challenge(record.name)
        self._pulse()
        if awaits_owner(record, challenge):
            return binding_request(record, challenge)
        asked = replace(record, asked=True, failures=0, retry_at=None, fault=None)
        self._shelf.save(asked)
        return asked

    def _begun(self, name: AgentName, wish: Wish) -> AgentRecord:
        """Return the record to enrol: its key is made and written before anybody hears of it."""
        there = self._shelf.names()
        if name in there:
            record = self._shelf.load(name)
            if record.certified is not None:
                raise SettingsInvalid(
                    f"agent {name} is there already; device-agent agent renew {name}, or remove it "
                    "first"
                )
            record = replace(record, wish=wish)
        elif len(there) >= MOST_AGENTS:
            raise SettingsInvalid(f"{len(there)} agents are on this device, the most there may be")
        else:
            record = AgentRecord(name=name, key=self._keys.create_wrapped(), wish=wish)
        self._pulse()
        self._shelf.save(record)
        return record

    def _enrol(
        self, record: AgentRecord, challenge: AgentChallenge
    ) -> tuple[AgentRecord, bool, int | None]:
        """Answer a challenge.

        Returns:
            The record, whether evidence was sent, and where the IMA list goes on.

        Raises:
            VerifierRefused: With the verifier's code.
            CertificateUnusable: If what came back is for another key.
        """
        message = build_agent_request(
            self._sources, self._keys, record, challenge, self._aibom_digest
        )
        self._pulse()
        reply = self._verifier.enrol_agent(message)
        _require_own(record, reply)
        done = agents.renewed(record, reply, self._now(), self._pacing)
        self._shelf.save(done)
        return done, reply.ima_next is not None, reply.ima_next


def _require_own(record: AgentRecord, reply: AgentReply) -> None:
    """Check that a certificate is for the key that was asked for."""
    try:
        leaf = x509.load_pem_x509_certificate(reply.certificate_chain_pem.encode())
        same = leaf.public_key() == parse_public(record.key.public).key
    except ValueError as error:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_MALFORMED,
            f"the verifier's certificate for agent {record.name} cannot be read: {error}",
        ) from error
    if not same:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_KEY_MISMATCH,
            f"the verifier's certificate for agent {record.name} is for another key than its own",
        )


def remove_agent(shelf: Shelf, name: AgentName) -> AgentRecord | None:
    """Remove an agent and its key; returns what was kept, None if that was damaged.

    Raises:
        AgentUnknown: If there is no such agent.
        StateUnwritable: If something cannot be removed.
    """
    with shelf.held(_WAIT_FOR_LOCK_S):
        record: AgentRecord | None = None
        with suppress(StateCorrupt):  # what is damaged is removed all the same
            record = shelf.load(name)
        shelf.remove(name)
    return record


def records_of(shelf: Shelf) -> tuple[AgentRecord, ...]:
    """Return every agent's record.

    Raises:
        StateCorrupt, StateUnwritable: If one cannot be read.
    """
    return tuple(shelf.load(name) for name in shelf.names())
