"""Performs what the state machine asks for, and feeds back what came of it.

Everything with effects comes in from outside (``device_agent.main`` builds it): TPM, verifier,
state file, broker, clock, jitter and the waiting itself. One action runs at a time; each is
bounded by its adapter's timeouts, and the watchdog is fed between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from device_agent import telemetry
from device_agent.agents import TendingDone
from device_agent.collector import Sources
from device_agent.daemon import step
from device_agent.errors import DeviceAgentError, StateCorrupt, StateUnwritable, VerifierRefused
from device_agent.lifecycle import (
    Action,
    AskChallenge,
    Challenged,
    Credential,
    Enrol,
    Enrolled,
    Event,
    Failed,
    Fault,
    Judged,
    Moment,
    ReportFault,
    ReportVerdict,
    Retired,
    RetireKey,
    Save,
    SendEvidence,
    Started,
    State,
    TendAgents,
    Tended,
    TimerFired,
    UseCredential,
    Verdict,
    Wait,
)
from device_agent.pacing import Pacing
from device_agent.ports import Enroller, Notifier, Publisher, VerifierClient
from device_agent.state.files import SavedState, StateFile
from device_agent.steps import attest_once, enrol_once
from device_agent.telemetry import Log
from device_agent.transport.answers import VerifierAskedToWait

_LONGEST_SLICE_S: Final = 10.0
"""A wait looks at the clock this often: a machine that slept finds out when it wakes."""


class Identity(Protocol):
    """Everything that speaks as the LDevID: TLS contexts and the broker."""

    def use(self, credential: Credential | None) -> Publisher | None:
        """Speak with this certificate from now on; None to fall silent."""
        ...


class Tender(Protocol):
    """The AI agents below this device, as far as the daemon looks after them."""

    def tend(self, *, anew: bool = False) -> TendingDone:
        """Do what is due; what fails is tried again later.

        Args:
            anew: Ask of every agent whether its certificate still stands.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The world's clocks and dice.

    Attributes:
        wall: The moment, aware.
        elapsed_s: Seconds on a clock that never goes back and counts sleep.
        jitter: A random number in 0..1.
        pause: Waits so many seconds; True at once when the daemon shall stop.
    """

    wall: Callable[[], datetime]
    elapsed_s: Callable[[], float]
    jitter: Callable[[], float]
    pause: Callable[[float], bool]


class DaemonLoop:
    """Runs the daemon until it is told to stop.

    Args:
        sources: TPM, firmware log and host facts.
        verifier: The verifier.
        enroller: The door to enrol by; None for the verifier's own.
        identity: What speaks as the LDevID.
        store: The state file, already claimed.
        notifier: systemd.
        clock: Clocks, dice and waiting.
        pacing: Schedules.
        log: The daemon's log.
        intermediates: The manufacturer's intermediate certificates, DER.
        watchdog_s: How often systemd wants to hear from us; None for never.
        agents: The AI agents to look after; None for none.
    """

    def __init__(
        self,
        *,
        sources: Sources,
        verifier: VerifierClient,
        identity: Identity,
        store: StateFile,
        notifier: Notifier,
        clock: Clock,
        pacing: Pacing,
        log: Log,
        intermediates: Sequence[bytes] = (),
        watchdog_s: float | None = None,
        agents: Tender | None = None,
        enroller: Enroller | None = None,
    ) -> None:
        self._sources = sources
        self._verifier = verifier
        self._enroller: Enroller = verifier if enroller is None else enroller
        self._identity = identity
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._pacing = pacing
        self._log = log
        self._intermediates = tuple(intermediates)
        self._agents = agents
        self._slice_s = min(_LONGEST_SLICE_S, watchdog_s or _LONGEST_SLICE_S)
        self._publisher: Publisher | None = None
        self._unopened: Credential | None = None
        self._state = State()
        self._seq = 0
        self._state_writable = True

    @property
    def state(self) -> State:
        """The machine's state."""
        return self._state

    def run(self) -> None:
        """Run until ``clock.pause`` says stop."""
        self._restore()
        self._notifier.ready()
        events: deque[Event] = deque([Started()])
        while events:
            transition = step(self._state, events.popleft(), self._moment(), self._pacing)
            self._state = transition.state
            for action in transition.actions:
                self._notifier.watchdog()
                if (outcome := self._perform(action)) is not None:
                    events.append(outcome)
        self._notifier.stopping()
        self._save()
        if self._publisher is not None:
            self._publisher.close()

    def _moment(self) -> Moment:
        return Moment(
            at=self._clock.wall(), elapsed_s=self._clock.elapsed_s(), jitter=self._clock.jitter()
        )

    def _perform(self, action: Action) -> Event | None:
        """Perform one action; a driver returns its outcome, or None when we shall stop."""
        match action:
            case Enrol() | AskChallenge() | SendEvidence():
                return self._ask(action)
            case Wait():
                self._log.debug(telemetry.WAIT_BEGUN, seconds=round(action.seconds, 3))
                return self._wait(action.seconds)
            case UseCredential():
                self._use(action.credential)
            case RetireKey():
                return self._retire(action)
            case TendAgents():
                return self._tend_agents(action.anew)
            case Save():
                self._save()
            case ReportVerdict():
                self._report_verdict(action.verdict)
            case ReportFault():
                self._report_fault(action.fault)
        return None

    def _ask(self, action: Enrol | AskChallenge | SendEvidence) -> Event:
        try:
            match action:
                case Enrol():
                    reply = enrol_once(
                        self._sources,
                        self._enroller,
                        self._intermediates,
                        self._notifier.watchdog,
                        slot=action.slot,
                        fresh=action.fresh,
                    )
                    self._log.info(
                        telemetry.DEVICE_ENROLLED,
                        device=reply.device_id,
                        not_after=reply.not_after.isoformat(),
                    )
                    return Enrolled(reply=reply)
                case AskChallenge():
                    return Challenged(reply=self._verifier.challenge())
                case SendEvidence():
                    return Judged(
                        reply=attest_once(
                            self._sources,
                            self._verifier,
                            action.challenge,
                            whole_log=action.whole_log,
                            ima_from=action.ima_from,
                            pulse=self._notifier.watchdog,
                        )
                    )
        except DeviceAgentError as error:
            return failed(error)

    def _retire(self, action: RetireKey) -> Event | None:
        """Evict a key; if that fails, the next judgement tries again."""
        try:
            self._sources.tpm.evict_ldevid(action.slot)
        except DeviceAgentError as error:
            self._log.warning(telemetry.FAULT_OCCURRED, code=str(error.code), reason=error.reason)
            return None
        self._log.info(telemetry.KEY_RETIRED, slot=action.slot.value)
        return Retired(slot=action.slot)

    def _tend_agents(self, anew: bool) -> Event | None:  # noqa: FBT001 - the action's own word
        """Look after the AI agents; trouble with one is not the device's, and only told."""
        if self._agents is None:
            return None
        done = self._agents.tend(anew=anew)
        if done.fault is not None:
            code, reason = str(done.fault.code), done.fault.reason
            self._log.warning(telemetry.AGENT_TROUBLED, code=code, reason=reason)
        return Tended(ima_next=done.ima_next) if done.attested else None

    def _wait(self, seconds: float) -> Event | None:
        until = self._clock.elapsed_s() + seconds
        while (left := until - self._clock.elapsed_s()) > 0:
            if self._clock.pause(min(left, self._slice_s)):
                return None
            self._notifier.watchdog()
        return None if self._clock.pause(0) else TimerFired()

    def _use(self, credential: Credential | None) -> None:
        if self._publisher is not None:
            self._publisher.close()
        self._publisher, self._unopened = None, None
        try:
            self._publisher = self._identity.use(credential)
        except DeviceAgentError as error:
            # Without a broker the device still attests; the next judgement tries again.
            self._unopened = credential
            self._report_fault(
                Fault(code=str(error.code), reason=error.reason, at=self._clock.wall())
            )
        self._announce()

    def _report_verdict(self, verdict: Verdict) -> None:
        write = self._log.info if verdict.status == "affirming" else self._log.warning
        write(
            telemetry.EVIDENCE_JUDGED,
            status=verdict.status,
            allow=verdict.allowed,
            reasons=list(verdict.reasons),
        )
        words = "allowed" if verdict.allowed else "denied"
        self._notifier.status(f"{verdict.status}, {words}")
        self._seq += 1
        if self._unopened is not None:
            self._use(self._unopened)
        else:
            self._announce()

    def _report_fault(self, fault: Fault) -> None:
        self._log.warning(telemetry.FAULT_OCCURRED, code=str(fault.code), reason=fault.reason)
        self._notifier.status(f"{self._state.phase}: {fault.code}: {fault.reason}")
        self._seq += 1
        self._announce()

    def _announce(self) -> None:
        if self._publisher is None:
            return
        verdict, fault = self._state.verdict, self._state.fault
        self._publisher.announce(
            "init" if verdict is None else "ready",
            {
                "seq": self._seq,
                "attestation": None
                if verdict is None
                else {
                    "status": verdict.status,
                    "allow": verdict.allowed,
                    "reasons": list(verdict.reasons),
                    "at": verdict.at.isoformat(),
                },
                "fault": None
                if fault is None
                else {"code": str(fault.code), "at": fault.at.isoformat()},
            },
        )

    def _restore(self) -> None:
        """Take up what the last run left; a damaged file is set aside, and we enrol anew."""
        try:
            saved = self._store.load()
        except StateCorrupt as error:
            self._log.warning(telemetry.STATE_SET_ASIDE, reason=error.reason)
            saved = None
            try:
                self._store.set_aside()
            except StateUnwritable as unwritable:
                self._log.warning(telemetry.STATE_UNWRITABLE, reason=unwritable.reason)
        except StateUnwritable as error:
            self._log.warning(telemetry.STATE_UNWRITABLE, reason=error.reason)
            saved = None
        if saved is not None:
            self._seq = saved.seq + 1
            self._state = saved.resumed()

    def _save(self) -> None:
        """Write the state file; a full disk is reported once and does not stop us."""
        saved = SavedState.of(self._state, self._clock.wall(), self._seq)
        try:
            self._store.save(saved)
        except StateUnwritable as error:
            if self._state_writable:
                self._log.warning(telemetry.STATE_UNWRITABLE, reason=error.reason)
            self._state_writable = False
            return
        if not self._state_writable:
            self._log.info(telemetry.STATE_WRITABLE)
        self._state_writable = True


def failed(error: DeviceAgentError) -> Failed:
    """Return the event of a driver that failed."""
    return Failed(
        code=str(error.code),
        reason=error.reason,
        refused=isinstance(error, VerifierRefused),
        retry_after_s=error.retry_after_s if isinstance(error, VerifierAskedToWait) else None,
    )
