"""The daemon as a pure state machine: ``step(state, event, moment, pacing) -> Transition``.

No clock, no I/O, no randomness: the moment, with its jitter number, is an argument. The loop in
``device_agent.main`` performs the actions and feeds back what came of them.

::

    UNENROLLED ──started──► ENROLLING ──enrolled──► ATTESTING ──┐
        ▲    ▲                │   ▲                  │   ▲  └─judged, timer─┘
        │    └─ no IDevID ────┘   │                  │   │
      timer                       └── BACKING_OFF ◄──┘   │   (resumes what it left)
                                          └──────────────┘

In every state but the very first exactly one *driver* is under way (``Pending``): a request
whose outcome will come back as an event, or a timer. An event that does not belong to the driver
under way is stale and changes nothing; so the machine is never stuck and never forks.

What replaces the LDevID, its certificate or its key, is in :mod:`device_agent.succession`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from attestation.refusals import RefusalCode
from device_agent import succession
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
    HeldChallenge,
    Judged,
    Moment,
    Pending,
    Phase,
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
    Transition,
    UseCredential,
    Verdict,
    Wait,
)
from device_agent.pacing import Pacing
from device_agent.ports import ChallengeReply, EnrolmentReply, EvidenceReply

# --- what a fault means ------------------------------------------------------------------------
NONCE_FAULTS: Final = frozenset(
    {
        RefusalCode.NONCE_EXPIRED,
        RefusalCode.NONCE_FORGED,
        RefusalCode.NONCE_MALFORMED,
        RefusalCode.NONCE_REUSED,
    }
)
"""The challenge is dead (or its key rotated away): a new one mends it."""

CREDENTIAL_FAULTS: Final = frozenset(
    {
        RefusalCode.AK_UNKNOWN,
        RefusalCode.CERTIFICATE_EXPIRED,
        RefusalCode.CERTIFICATE_KEY_MISMATCH,
        RefusalCode.CERTIFICATE_MALFORMED,
        RefusalCode.CERTIFICATE_REVOKED,
        RefusalCode.CERTIFICATE_UNTRUSTED,
        RefusalCode.CLIENT_CERTIFICATE_REQUIRED,
        RefusalCode.CLIENT_CERTIFICATE_WRONG,
        RefusalCode.DEVICE_UNKNOWN,
        RefusalCode.TPM_KEY_MISSING,
    }
)
"""While attesting: our LDevID is no longer believed, or its key is gone; enrolling mends it."""

TRANSIENT_REFUSALS: Final = frozenset(
    {
        RefusalCode.INTERNAL_ERROR,
        RefusalCode.OVERLOADED,
        RefusalCode.RATE_LIMITED,
        RefusalCode.STORE_UNAVAILABLE,
        RefusalCode.LOG_UNKNOWN,
        RefusalCode.IMA_OFFSET_UNKNOWN,
        *NONCE_FAULTS,
    }
)
"""Refusals that time mends; every other refusal waits for a person (a long pause)."""

_CHALLENGE_MARGIN: Final = 0.8
"""A challenge is answered only in this part of its life; quoting and sending need the rest."""


def step(state: State, event: Event, moment: Moment, pacing: Pacing) -> Transition:
    """Advance the machine by one event.

    Args:
        state: As the last step left it.
        event: What happened.
        moment: When, and the jitter number for a delay.
        pacing: Schedules.

    Returns:
        The next state and the actions to perform; unchanged and empty for a stale event.
    """
    following: Transition | None = None
    match event:
        case Started() if state.pending is Pending.NOTHING:
            following = _started(state, moment, pacing)
        case TimerFired() if state.pending is Pending.TIMER:
            following = _timer(state, moment, pacing)
        case Enrolled() if state.pending is Pending.ENROLMENT:
            following = _enrolled(state, event.reply, moment, pacing)
        case Challenged() if state.pending is Pending.CHALLENGE:
            following = _send(state, _hold(event.reply, moment))
        case Judged() if state.pending is Pending.EVIDENCE:
            following = _judged(state, event.reply, moment, pacing)
        case Failed() if state.pending not in (Pending.NOTHING, Pending.TIMER):
            following = _failed(state, event, moment, pacing)
        case Retired() if state.retiring is event.slot:
            following = Transition(state=replace(state, retiring=None), actions=(Save(),))
        case Tended():
            following = _tended(state, event)
        case _:
            pass
    return following or Transition(state=state)


def _started(state: State, moment: Moment, pacing: Pacing) -> Transition:
    credential = state.spoken
    if credential is None:
        return _first(_retire(state), _enrol(state))
    opening = (*_retire(state), UseCredential(credential=credential))
    planned = state.renew_at or credential.renew_from(pacing.renewal, moment.jitter)
    return _first(opening, _go_on(replace(state, renew_at=planned), credential, moment, pacing))


def _tended(state: State, event: Tended) -> Transition:
    """Drop a challenge that is older than what was answered for an agent since."""
    ima_next = state.ima_next if event.ima_next is None else event.ima_next
    return Transition(state=replace(state, challenge=None, ima_next=ima_next))


def _timer(state: State, moment: Moment, pacing: Pacing) -> Transition:
    phase = state.resume if state.phase is Phase.BACKING_OFF else state.phase
    credential = state.spoken
    if phase is not Phase.ATTESTING or credential is None:
        return _enrol(state)
    return _go_on(state, credential, moment, pacing)


def _go_on(state: State, credential: Credential, moment: Moment, pacing: Pacing) -> Transition:
    """Do what is due for a device that holds a certificate."""
    state = succession.settled(state, moment, pacing.renewal)
    credential = state.spoken or credential
    if credential.is_over(moment.at):
        fault = succession.ended(credential, moment)
        bare = replace(state, credential=None, candidate=None, fault=fault)
        report = (ReportFault(fault=fault), UseCredential(credential=None))
        return _first(report, _enrol(bare))
    if error := credential.clock_error(moment.at, pacing.renewal.skew):
        return _wait_for_clock(state, error, moment, pacing)
    if succession.rotation_due(state, moment, pacing.renewal):
        return _enrol(replace(state, rotating=True))
    if succession.renewal_due(state, moment, pacing.renewal):
        return _enrol(state)
    return _attest(state, moment)


def _wait_for_clock(state: State, error: str, moment: Moment, pacing: Pacing) -> Transition:
    """Let the certificate rest until our clock is mended; nobody is asked for another."""
    event = Failed(code=RefusalCode.CLOCK_WRONG, reason=succession.clock_words(error))
    fault = Fault(code=event.code, reason=event.reason, at=moment.at)
    waiting = _back_off(replace(state, fault=fault), event, moment, pacing, resume=Phase.ATTESTING)
    return _first((ReportFault(fault=fault),), waiting)


def _enrol(state: State) -> Transition:
    following = replace(
        state, phase=Phase.ENROLLING, pending=Pending.ENROLMENT, resume=None, challenge=None
    )
    if state.rotating and state.credential is not None:
        enrol = Enrol(slot=state.credential.slot.other_slot, fresh=True)
        return Transition(state=following, actions=(enrol,))
    return Transition(state=replace(following, rotating=False), actions=(Enrol(slot=state.slot),))


def _first(actions: tuple[Action, ...], following: Transition) -> Transition:
    return replace(following, actions=(*actions, *following.actions))


def _retire(state: State) -> tuple[Action, ...]:
    return () if state.retiring is None else (RetireKey(slot=state.retiring),)


def _attest(state: State, moment: Moment) -> Transition:
    """Answer the challenge at hand, or ask for one."""
    attesting = replace(state, phase=Phase.ATTESTING, resume=None)
    held = state.challenge
    if held is not None and moment.elapsed_s < held.until_s:
        return _send(attesting, held)
    following = replace(attesting, pending=Pending.CHALLENGE, challenge=None)
    return Transition(state=following, actions=(AskChallenge(),))


def _send(state: State, held: HeldChallenge) -> Transition:
    """Spend the challenge: it leaves the state with the evidence."""
    following = replace(state, pending=Pending.EVIDENCE, challenge=None)
    send = SendEvidence(
        challenge=held.reply, whole_log=not state.log_known, ima_from=state.ima_next
    )
    return Transition(state=following, actions=(send,))


def _hold(reply: ChallengeReply, moment: Moment) -> HeldChallenge:
    lives_s = max(0.0, reply.expires_in_s) * _CHALLENGE_MARGIN
    return HeldChallenge(reply=reply, until_s=moment.elapsed_s + lives_s)


def _enrolled(state: State, reply: EnrolmentReply, moment: Moment, pacing: Pacing) -> Transition:
    taken = succession.take(state, reply, moment, pacing.renewal)
    # ``reenrolled`` stays until evidence is judged: a verifier that enrols us and then does not
    # know us must not be asked in a tight circle.
    fresh = replace(taken, fault=None, log_known=False, ima_next=reply.ima_next, challenge=None)
    credential = fresh.spoken
    error = credential.clock_error(moment.at, pacing.renewal.skew) if credential else ""
    following = _wait_for_clock(fresh, error, moment, pacing) if error else _attest(fresh, moment)
    return _first((UseCredential(credential=credential), Save()), following)


def _judged(state: State, reply: EvidenceReply, moment: Moment, pacing: Pacing) -> Transition:
    """Record the judgement, whatever it is: a contraindicated device goes on attesting."""
    verdict = Verdict(
        status=reply.status,
        allowed=reply.allowed,
        reasons=reply.reasons,
        result=reply.result,
        at=moment.at,
    )
    seconds = min(max(reply.attest_in_s, pacing.interval_min_s), pacing.interval_max_s)
    following = replace(
        succession.proven(state, moment, pacing.renewal),
        pending=Pending.TIMER,
        failures=0,
        fault=None,
        rechallenged=False,
        reenrolled=False,
        log_known=reply.log_known,
        ima_next=reply.ima_next,
        challenge=_hold(reply.next, moment),
        verdict=verdict,
    )
    return Transition(
        state=following,
        actions=(
            ReportVerdict(verdict=verdict),
            Save(),
            *_retire(following),
            TendAgents(anew=state.reenrolled),
            Wait(seconds=seconds),
        ),
    )


def _failed(state: State, event: Failed, moment: Moment, pacing: Pacing) -> Transition:
    fault = Fault(code=event.code, reason=event.reason, at=moment.at)
    failed = replace(state, fault=fault, challenge=None)
    if state.phase is Phase.ENROLLING:
        following = _enrolment_failed(failed, event, moment, pacing)
    else:
        following = _attestation_failed(failed, event, moment, pacing)
    return replace(following, actions=(ReportFault(fault=fault), *following.actions))


def _enrolment_failed(state: State, event: Failed, moment: Moment, pacing: Pacing) -> Transition:
    credential = state.spoken
    if credential is not None and not credential.is_over(moment.at):
        # A renewal failed while the old certificate lives: go on with that, try again later.
        pause_s = _pause_s(state, event, moment, pacing, attempt=state.renew_failures)
        return _attest(succession.postponed(state, pause_s, moment), moment)
    state = replace(state, rotating=False)
    if event.code == RefusalCode.TPM_KEY_MISSING:
        # Nothing to enrol with: the manufacturer's keys are missing; a person must act.
        seconds = _long_s(moment, pacing)
        idle = replace(state, phase=Phase.UNENROLLED, pending=Pending.TIMER, resume=None)
        return Transition(state=idle, actions=(Save(), Wait(seconds=seconds)))
    return _back_off(state, event, moment, pacing, resume=Phase.ENROLLING)


def _attestation_failed(state: State, event: Failed, moment: Moment, pacing: Pacing) -> Transition:
    if event.code == RefusalCode.LOG_UNKNOWN and state.log_known:
        # The verifier lost our log: send it whole, on a new challenge.
        return _attest(replace(state, log_known=False), moment)
    if event.code == RefusalCode.IMA_OFFSET_UNKNOWN and state.ima_next:
        # The verifier lost (or never got) what our list goes on from: send it whole.
        return _attest(replace(state, ima_next=0), moment)
    if event.code in NONCE_FAULTS and not state.rechallenged:
        return _attest(replace(state, rechallenged=True), moment)
    if event.code in CREDENTIAL_FAULTS and state.candidate is not None:
        pause_s = _long_s(moment, pacing)
        back = succession.given_up(state, pause_s, moment)
        actions = (UseCredential(credential=back.credential), Save(), *_retire(back))
        return _first(actions, _attest(back, moment))
    if event.code in CREDENTIAL_FAULTS:
        bare = replace(state, credential=None, renew_at=None, log_known=False, ima_next=0)
        if state.reenrolled:
            following = _back_off(bare, event, moment, pacing, resume=Phase.ENROLLING)
        else:
            following = _enrol(replace(bare, reenrolled=True))
            following = replace(following, actions=(Save(), *following.actions))
        return replace(following, actions=(UseCredential(credential=None), *following.actions))
    return _back_off(state, event, moment, pacing, resume=Phase.ATTESTING)


def _back_off(
    state: State, event: Failed, moment: Moment, pacing: Pacing, *, resume: Phase
) -> Transition:
    following = replace(
        state,
        phase=Phase.BACKING_OFF,
        pending=Pending.TIMER,
        resume=resume,
        failures=state.failures + 1,
        rechallenged=False,
    )
    seconds = _pause_s(state, event, moment, pacing, attempt=state.failures)
    return Transition(state=following, actions=(Save(), Wait(seconds=seconds)))


def _pause_s(state: State, event: Failed, moment: Moment, pacing: Pacing, *, attempt: int) -> float:
    """Return how long to wait: long where only a person can mend it, else the back-off."""
    asks_person = event.refused and not _mends_itself(event.code, state)
    if asks_person or event.code == RefusalCode.TPM_LOCKED_OUT:
        return _long_s(moment, pacing)
    seconds = pacing.backoff.delay_s(attempt, moment.jitter)
    if event.retry_after_s is None:
        return seconds
    return max(seconds, min(event.retry_after_s, pacing.refused_s))


def _long_s(moment: Moment, pacing: Pacing) -> float:
    """Return the long pause, its last fifth spread by the jitter, seconds."""
    return pacing.refused_s * (0.8 + 0.2 * moment.jitter)


def _mends_itself(code: str, state: State) -> bool:
    renewable = state.phase is Phase.ATTESTING and code in CREDENTIAL_FAULTS
    return code in TRANSIENT_REFUSALS or renewable
