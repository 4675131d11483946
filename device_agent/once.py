"""The commands that do one thing and end: enrol, attest, rotate, check, those for AI agents.

Each holds the state directory while it works, so that no daemon answers challenges at the same
time, and writes after each step what the daemon would have written: it goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from attestation.errors import AttestationError
from attestation.wire.enrolment_codec import decode_enrolment
from device_agent import succession, telemetry
from device_agent.agents_kept import agent_shelf
from device_agent.checks import Check
from device_agent.clock import elapsed_s, jitter, wall_clock
from device_agent.daemon import CREDENTIAL_FAULTS
from device_agent.doctor import Patient, examine
from device_agent.enrolment import Shown, build_enrolment, plain_request
from device_agent.errors import (
    DeviceAgentError,
    SettingsInvalid,
    StateCorrupt,
    StateUnwritable,
    TpmKeyMissing,
)
from device_agent.lifecycle import Credential, Fault, Moment, Phase, State, Verdict
from device_agent.main import DaemonTpm, Parts, assemble, renewal_of, tender_of
from device_agent.ports import Enroller, EvidenceReply, KeyRole
from device_agent.settings import Settings
from device_agent.state.files import SavedState, StateFile
from device_agent.steps import attest_once, enrol_once
from device_agent.tending import AgentTender, records_of
from device_agent.transport.est import attested_csr, read_nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What an exchange of the LDevID key did.

    Attributes:
        before: The certificate for the key that was used until now.
        after: The certificate for the new key.
        reply: The judgement that showed the new key to work.
        left_over: Why the old key is still in the TPM; empty if it is evicted.
    """

    before: Credential
    after: Credential
    reply: EvidenceReply
    left_over: str


class _Held:
    """The state directory, held for one command."""

    def __init__(self, parts: Parts, saved: SavedState | None) -> None:
        self.parts = parts
        known = saved is not None and saved.phase in set(Phase)
        self._phase = Phase(saved.phase) if saved and known else Phase.UNENROLLED
        self._seq = saved.seq if saved else 0
        self.state = saved.resumed() if saved else State()

    def save(self, state: State, phase: Phase | None = None) -> None:
        """Take a state over and write it."""
        self._phase = phase or self._phase
        self.state = replace(state, phase=self._phase)
        self.parts.store.save(SavedState.of(self.state, wall_clock(), self._seq))

    def enrol(self, *, fresh: bool = False, by: Enroller | None = None) -> None:
        """Enrol, and write what came of it; ``fresh`` with a new key in the other slot."""
        parts, state = self.parts, self.state
        slot = state.slot
        if fresh and state.credential is not None:
            slot, state = state.credential.slot.other_slot, replace(state, rotating=True)
        reply = enrol_once(
            parts.sources, by or parts.enroller, parts.intermediates, slot=slot, fresh=fresh
        )
        taken = succession.take(state, reply, _now(), renewal_of(parts.settings))
        self.save(replace(taken, fault=None), Phase.ATTESTING)

    def attest(self) -> EvidenceReply:
        """Attest with the certificate that the device speaks with, and write the judgement."""
        parts = self.parts
        parts.identities.credential = self.state.spoken
        parts.verifier.forget(KeyRole.LDEVID)
        challenge = parts.verifier.challenge()
        reply = attest_once(parts.sources, parts.verifier, challenge, whole_log=True)
        verdict = Verdict(
            status=reply.status,
            allowed=reply.allowed,
            reasons=reply.reasons,
            result=reply.result,
            at=wall_clock(),
        )
        judged = succession.proven(self.state, _now(), renewal_of(parts.settings))
        self.save(replace(judged, verdict=verdict))
        return reply

    def retire(self) -> str:
        """Evict the key that is to go; returns why it could not be, empty if it is gone.

        Raises:
            StateUnwritable: If that cannot be written.
        """
        if self.state.retiring is None:
            return ""
        try:
            self.parts.sources.tpm.evict_ldevid(self.state.retiring)
        except DeviceAgentError as error:
            return f"{error.code}: {error.reason}"
        self.save(replace(self.state, retiring=None))
        return ""


def enrol_now(parts: Parts, by: Enroller | None = None) -> Credential:
    """Enrol once, with the key in the slot in use, and write the state (``device-agent enrol``).

    Args:
        parts: Wired.
        by: The door to enrol by; None for that of the settings.

    Raises:
        DeviceAgentError: If any part fails.
    """
    with _claimed(parts) as held:
        held.enrol(by=by)
        held.retire()
    credential = held.state.credential
    if credential is None:
        raise _not_enrolled()
    return credential


def csr_now(parts: Parts, nonce: bytes, renews: str | None) -> bytes:
    """Make a certificate request of the LDevID key (``device-agent csr``); nothing is sent.

    Args:
        parts: Wired.
        nonce: What the verifier's EST door answered to ``nonce``, to put the attestation into the
            request; empty for none.
        renews: The certificate that it will be sent over, and asks for the names of (PEM); empty
            for the one that the device holds, None to be sent over the IDevID's.

    Returns:
        DER of a PKCS#10 request.

    Raises:
        SettingsInvalid: If it is no nonce.
        TpmKeyMissing: If there is no certificate to renew, or no IDevID.
        CertificateUnusable: If the certificate to renew cannot be read.
        DeviceAgentError: If any other part fails.
    """
    try:
        challenge = read_nonce(nonce) if nonce else None
    except AttestationError as error:
        raise SettingsInvalid(
            f"what is to be answered is no nonce of EST with the PCRs to quote: {error.reason}"
        ) from error
    with _looked_at(parts) if challenge is None else _claimed(parts) as held:
        own, sources = held.state.spoken, parts.sources
        if renews == "" and own is None:
            raise _not_enrolled()
        if renews == "" and own is not None:
            renews = own.certificate_chain_pem
        slot = own.slot if own is not None else held.state.slot
        if challenge is None:
            sources.tpm.create_ldevid(slot)
            return attested_csr(sources.tpm, plain_request(sources.tpm, slot), renews)
        message = build_enrolment(
            sources,
            challenge,
            intermediates=parts.intermediates,
            slot=slot,
            shown=Shown(idevid=renews is None),
        )
        return attested_csr(sources.tpm, decode_enrolment(message), renews)


def attest_now(parts: Parts) -> EvidenceReply:
    """Attest once and write the state (``device-agent attest``).

    Raises:
        TpmKeyMissing: If the device is not enrolled.
        DeviceAgentError: If any other part fails.
    """
    with _claimed(parts) as held:
        reply = held.attest()
        held.retire()
    return reply


def rotate_now(parts: Parts) -> Exchange:
    """Exchange the LDevID key for a new one (``device-agent rotate``).

    The certificate in use stays until the verifier has judged evidence sent with the new one; an
    exchange that was interrupted in between is gone on with.

    Raises:
        TpmKeyMissing: If the device is not enrolled.
        VerifierRefused: If the verifier does not take the new key: the device goes on with what
            it had, and the new key is evicted.
        DeviceAgentError: If any other part fails; nothing is lost, and the daemon or the same
            command goes on.
    """
    with _claimed(parts) as held:
        before = held.state.credential
        if before is None:
            raise _not_enrolled()
        if held.state.candidate is None:
            held.enrol(fresh=True)
        try:
            reply = held.attest()
        except DeviceAgentError as error:
            if error.code in CREDENTIAL_FAULTS:
                _give_up(held, error)
            raise
        left_over = held.retire()
    after = held.state.credential
    if after is None:
        raise _not_enrolled()
    return Exchange(before=before, after=after, reply=reply, left_over=left_over)


def _give_up(held: _Held, error: DeviceAgentError) -> None:
    """Go on with the certificate that the new one was to replace."""
    now = _now()
    fault = Fault(code=str(error.code), reason=error.reason, at=now.at)
    pause_s = held.parts.settings.retry.refused_s
    held.save(succession.given_up(replace(held.state, fault=fault), pause_s, now))
    held.retire()


def _not_enrolled() -> TpmKeyMissing:
    return TpmKeyMissing("this device holds no LDevID certificate; enrol it first")


def _now() -> Moment:
    return Moment(at=wall_clock(), elapsed_s=elapsed_s(), jitter=jitter())


@contextmanager
def _looked_at(parts: Parts) -> Iterator[_Held]:
    """Read the state beside a daemon that may hold it."""
    yield _Held(parts, parts.store.load())


@contextmanager
def _claimed(parts: Parts) -> Iterator[_Held]:
    """Hold the state directory, so that no daemon answers challenges at the same time."""
    parts.store.claim()
    try:
        yield _Held(parts, parts.store.load())
    finally:
        parts.verifier.close()
        parts.store.release()


def examine_now(parts: Parts) -> tuple[Check, ...]:
    """Make every check of ``device-agent check``."""
    try:
        saved = parts.store.load()
    except (StateCorrupt, StateUnwritable):
        saved = None
    try:
        agents = records_of(agent_shelf(parts.settings))
    except (StateCorrupt, StateUnwritable):
        agents = ()  # the daemon tells which one is damaged
    return examine(
        Patient(
            settings=parts.settings,
            sources=parts.sources,
            verifier=parts.verifier,
            saved=saved,
            tls_self_test=parts.tls_self_test,
            now=wall_clock,
            agents=agents,
        )
    )


@contextmanager
def agents_tender(settings: Settings, tpm: DaemonTpm) -> Iterator[tuple[StateFile, AgentTender]]:
    """Wire what looks after the AI agents, for the commands; speaks as the LDevID of the state.

    Yields:
        The state directory, to be held while evidence is sent, and the tender.

    Raises:
        SettingsInvalid: As :func:`assemble`.
        TpmKeyMissing: If the device is not enrolled.
        StateCorrupt, StateUnwritable: If the state file cannot be read.
    """
    parts = assemble(settings, tpm)
    saved = parts.store.load()
    if saved is None or (saved.candidate or saved.credential) is None:
        raise TpmKeyMissing("this device holds no LDevID certificate; enrol it first")
    parts.identities.credential = saved.candidate or saved.credential
    log = telemetry.open_log(settings.log.level, settings.log.format, wall_clock)
    try:
        yield parts.store, tender_of(parts, tpm, log, lambda: None)
    finally:
        parts.verifier.close()
