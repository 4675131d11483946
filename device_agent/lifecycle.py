"""The words of the daemon's state machine: states, events and actions, all plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from device_agent.ports import ChallengeReply, EnrolmentReply, EvidenceReply


class Phase(StrEnum):
    """What the daemon is about."""

    UNENROLLED = "unenrolled"
    ENROLLING = "enrolling"
    ATTESTING = "attesting"
    BACKING_OFF = "backing_off"


class Pending(StrEnum):
    """The one thing under way whose end will move the machine on."""

    NOTHING = "nothing"
    ENROLMENT = "enrolment"
    CHALLENGE = "challenge"
    EVIDENCE = "evidence"
    TIMER = "timer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The LDevID certificate as enrolment gave it."""

    device_id: str
    certificate_chain_pem: str
    obtained_at: datetime
    not_after: datetime

    def renew_from(self, margin: timedelta) -> datetime:
        """Return when to renew: ``margin`` before the end, or the last third of a short life."""
        return self.not_after - min(margin, (self.not_after - self.obtained_at) / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verifier's last word about this device."""

    status: str
    allowed: bool
    reasons: tuple[str, ...]
    result: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The last thing that went wrong; gone with the next success."""

    code: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldChallenge:
    """A challenge not yet answered, and until when answering makes sense (monotonic seconds)."""

    reply: ChallengeReply
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything the machine knows.

    Attributes:
        phase: What it is about.
        pending: The driver under way.
        resume: While backing off, the phase to go back to.
        failures: Failures in a row, for the back-off.
        credential: The LDevID certificate, while we believe in it.
        renew_at: Not before this moment is a renewal tried (again).
        challenge: The next challenge, if the verifier already gave it.
        log_known: Whether the verifier has our firmware log, so that a digest suffices.
        ima_next: The first IMA entry that the verifier does not have. Not kept in the state file:
            after a restart (and so after a reboot) the list is sent whole.
        rechallenged: The challenge under way replaces one that was refused; a second refusal
            in a row backs off.
        reenrolled: The credential was refused and replaced since the last judgement; a second
            refusal in a row backs off.
        verdict: The last judgement.
        fault: The last fault.
    """

    phase: Phase = Phase.UNENROLLED
    pending: Pending = Pending.NOTHING
    resume: Phase | None = None
    failures: int = 0
    credential: Credential | None = None
    renew_at: datetime | None = None
    challenge: HeldChallenge | None = None
    log_known: bool = False
    ima_next: int = 0
    rechallenged: bool = False
    reenrolled: bool = False
    verdict: Verdict | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When an event is handled.

    Attributes:
        at: Wall clock (aware): for certificates and records.
        elapsed_s: A clock that never goes back and counts sleep, seconds.
        jitter: A random number in 0..1.
    """

    at: datetime
    elapsed_s: float
    jitter: float


class DelaySchedule(Protocol):
    """When to try again (:class:`device_agent.transport.backoff.Backoff`)."""

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Return how long to wait, seconds; ``attempt`` counts from 0, ``jitter`` is in 0..1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How fast the daemon goes, from the settings.

    Attributes:
        backoff: Schedule after faults that time mends.
        refused_s: Pause after a refusal that only a person can end.
        interval_min_s: Never attest more often.
        interval_max_s: Never wait longer for the next attestation.
        renew_before: Renew the LDevID this long before its end.
    """

    backoff: DelaySchedule
    refused_s: float
    interval_min_s: float
    interval_max_s: float
    renew_before: timedelta


# --- events ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The daemon came up, with what the state file still held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """The wait is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The verifier accepted the enrolment."""

    reply: EnrolmentReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenged:
    """The verifier gave an attestation challenge."""

    reply: ChallengeReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verifier judged our evidence."""

    reply: EvidenceReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The driver under way failed.

    Attributes:
        code: The refusal's code, ours or the verifier's.
        reason: For people.
        refused: True when the verifier answered and said no; False when it was not reached or
            the fault is our own.
        retry_after_s: The verifier's wish, if it had one.
    """

    code: str
    reason: str
    refused: bool = False
    retry_after_s: float | None = None


Event = Started | TimerFired | Enrolled | Challenged | Judged | Failed


# --- actions -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol:
    """Ask for an enrolment challenge, build the request, send it. Driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskChallenge:
    """Ask for an attestation challenge. Driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendEvidence:
    """Quote for this challenge and send the evidence. Driver."""

    challenge: ChallengeReply
    whole_log: bool
    ima_from: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Let time pass, then fire the timer. Driver."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCredential:
    """Open (or, with None, close) everything that speaks as the LDevID."""

    credential: Credential | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Write the state file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFault:
    """Log a fault and say it in the status."""

    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportVerdict:
    """Log and announce a judgement."""

    verdict: Verdict


Action = (
    Enrol | AskChallenge | SendEvidence | Wait | UseCredential | Save | ReportFault | ReportVerdict
)
DRIVERS: Final = (Enrol, AskChallenge, SendEvidence, Wait)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What one step gives: the next state, and the actions to perform in order."""

    state: State
    actions: tuple[Action, ...] = ()
