"""The words of the daemon's state machine: states, events and actions, all plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from device_agent.pacing import Renewal
from device_agent.ports import ChallengeReply, EnrolmentReply, EvidenceReply, KeyRole


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
    """The LDevID certificate as enrolment gave it.

    Attributes:
        device_id: The id the verifier gave.
        certificate_chain_pem: Leaf first.
        obtained_at: When, by our clock.
        not_after: When it ends.
        not_before: When it begins; None if the state file of an older agent did not say.
        slot: Where its key is.
        key_since: Since when that key is used; None for ``obtained_at``.
    """

    device_id: str
    certificate_chain_pem: str
    obtained_at: datetime
    not_after: datetime
    not_before: datetime | None = None
    slot: KeyRole = KeyRole.LDEVID
    key_since: datetime | None = None

    def renew_from(self, renewal: Renewal, jitter: float) -> datetime:
        """Return when to renew; ``jitter`` in 0..1 places it within the spread."""
        share = min(renewal.share + renewal.spread * jitter, 1.0)
        return self.begins + self.life * share

    @property
    def begins(self) -> datetime:
        """When its life began for us: we got it, or it began, whichever is later."""
        return max(self.obtained_at, self.not_before or self.obtained_at)

    @property
    def life(self) -> timedelta:
        """How long it lives, from :attr:`begins`; never negative."""
        return max(self.not_after - self.begins, timedelta(0))

    def rotate_from(self, renewal: Renewal) -> datetime | None:
        """Return when the key is to be exchanged; None for never."""
        if renewal.rotate_after is None:
            return None
        return (self.key_since or self.obtained_at) + renewal.rotate_after

    def is_over(self, at: datetime) -> bool:
        """Say whether it has ended by our clock.

        One that was over the moment we got it tells that our clock is ahead
        (:meth:`clock_error`); that one is over when its whole life has passed.
        """
        if self.not_before is None or self.obtained_at < self.not_after:
            return self.not_after <= at
        return self.obtained_at + (self.not_after - self.not_before) <= at

    def clock_error(self, at: datetime, skew: timedelta) -> str:
        """Say how our clock contradicts a certificate in force; empty if it does not."""
        if self.not_before is not None and at + skew < self.not_before:
            return f"behind: {iso(at)} here, and the certificate begins {iso(self.not_before)}"
        if self.not_after <= at:
            return f"ahead: {iso(at)} here, and a certificate just given ends {iso(self.not_after)}"
        return ""


def iso(moment: datetime) -> str:
    """Return a moment for people, to the second (ISO 8601)."""
    return moment.isoformat(timespec="seconds")


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
        candidate: A certificate for a new key in the other slot, not yet proven to work; while
            there is one, we speak with it.
        rotating: The enrolment under way is for a new key.
        retiring: A slot whose key is to be evicted.
        slot: Where the key to enrol is.
        renew_at: Not before this moment is a renewal tried (again).
        rotate_at: Not before this moment is the key exchanged; None for its age alone.
        renew_failures: Failed renewals and exchanges in a row, for their own back-off.
        renewal_fault: Why the last of them failed; gone when one succeeds.
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
    candidate: Credential | None = None
    rotating: bool = False
    retiring: KeyRole | None = None
    slot: KeyRole = KeyRole.LDEVID
    renew_at: datetime | None = None
    rotate_at: datetime | None = None
    renew_failures: int = 0
    renewal_fault: Fault | None = None
    challenge: HeldChallenge | None = None
    log_known: bool = False
    ima_next: int = 0
    rechallenged: bool = False
    reenrolled: bool = False
    verdict: Verdict | None = None
    fault: Fault | None = None

    @property
    def spoken(self) -> Credential | None:
        """The certificate that we speak with."""
        return self.candidate or self.credential


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A key that is no longer used is gone from the TPM."""

    slot: KeyRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Tended:
    """Evidence was sent for an AI agent: a challenge that we hold is older than that one.

    Attributes:
        ima_next: The first IMA entry that the verifier wants next time; None if none were sent.
    """

    ima_next: int | None = None


Event = Started | TimerFired | Enrolled | Challenged | Judged | Failed | Retired | Tended


# --- actions -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol:
    """Ask for an enrolment challenge, build the request, send it. Driver.

    Attributes:
        slot: Where the key to certify is; made if it is not there.
        fresh: Evict what is there first, and make a new key.
    """

    slot: KeyRole = KeyRole.LDEVID
    fresh: bool = False


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
class RetireKey:
    """Evict a key that is no longer used; :class:`Retired` comes back if it is gone."""

    slot: KeyRole


@dataclass(frozen=True, slots=True, kw_only=True)
class TendAgents:
    """Renew the certificates of AI agents that are due.

    Attributes:
        anew: The device fell and has enrolled again: its agents' certificates may have fallen too.
    """

    anew: bool = False


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
    Enrol
    | AskChallenge
    | SendEvidence
    | Wait
    | UseCredential
    | RetireKey
    | TendAgents
    | Save
    | ReportFault
    | ReportVerdict
)
DRIVERS: Final = (Enrol, AskChallenge, SendEvidence, Wait)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What one step gives: the next state, and the actions to perform in order."""

    state: State
    actions: tuple[Action, ...] = ()
