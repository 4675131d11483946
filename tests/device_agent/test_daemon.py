"""The state machine: every transition that the contract names, and that it can never be stuck."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.pcr import PcrSelection
from attestation.refusals import RefusalCode
from device_agent.daemon import CREDENTIAL_FAULTS, NONCE_FAULTS, step
from device_agent.lifecycle import (
    DRIVERS,
    AskChallenge,
    Challenged,
    Credential,
    Enrol,
    Enrolled,
    Event,
    Failed,
    Judged,
    Moment,
    Pending,
    Phase,
    ReportFault,
    ReportVerdict,
    Save,
    SendEvidence,
    Started,
    State,
    TendAgents,
    Tended,
    TimerFired,
    Transition,
    UseCredential,
    Wait,
)
from device_agent.pacing import Pacing, Renewal
from device_agent.ports import ChallengeReply, EnrolmentReply, EvidenceReply
from device_agent.transport.backoff import Backoff

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PACING = Pacing(
    backoff=Backoff(base_s=1, cap_s=60),
    refused_s=600,
    interval_min_s=2,
    interval_max_s=100,
    renewal=Renewal(),
)
CHALLENGE = ChallengeReply(
    nonce=b"n" * 56,
    selections=(PcrSelection(bank=HashAlgorithm.SHA256, indices=(0, 1)),),
    expires_in_s=30,
)
CREDENTIAL = Credential(
    device_id="dev-a",
    certificate_chain_pem="pem",
    obtained_at=AT - timedelta(days=1),
    not_after=AT + timedelta(days=29),
)
ENROLLED = EnrolmentReply(
    device_id="dev-a", certificate_chain_pem="pem", not_after=AT + timedelta(days=30)
)


def judged(
    status: str = "affirming",
    *,
    log_known: bool = True,
    attest_in_s: float = 10,
    ima_next: int = 0,
) -> Judged:
    return Judged(
        reply=EvidenceReply(
            status=status,
            allowed=status == "affirming",
            reasons=() if status == "affirming" else ("reference-mismatch: PCR 4",),
            result="jwt",
            next=CHALLENGE,
            log_known=log_known,
            attest_in_s=attest_in_s,
            ima_next=ima_next,
        )
    )


def moment(elapsed_s: float = 0, *, jitter: float = 0.5, at: datetime = AT) -> Moment:
    return Moment(at=at + timedelta(seconds=elapsed_s), elapsed_s=elapsed_s, jitter=jitter)


def failed(code: str, **more: object) -> Failed:
    return Failed(code=code, reason="because", **more)  # type: ignore[arg-type]


def go(state: State, event: Event, when: Moment | None = None) -> Transition:
    return step(state, event, when or moment(), PACING)


def attesting(**more: object) -> State:
    state = State(
        phase=Phase.ATTESTING, pending=Pending.EVIDENCE, credential=CREDENTIAL, log_known=True
    )
    return replace(state, **more)  # type: ignore[arg-type]


def enrolling(**more: object) -> State:
    return replace(
        State(phase=Phase.ENROLLING, pending=Pending.ENROLMENT),
        **more,  # type: ignore[arg-type]
    )


def kinds(transition: Transition) -> list[type]:
    return [type(action) for action in transition.actions]


def wait_s(transition: Transition) -> float:
    (wait,) = (action for action in transition.actions if isinstance(action, Wait))
    return wait.seconds


def test_a_new_device_enrols_first() -> None:
    transition = go(State(), Started())

    assert kinds(transition) == [Enrol]
    assert transition.state.phase is Phase.ENROLLING


def test_an_enrolled_device_attests_at_once() -> None:
    transition = go(State(credential=CREDENTIAL), Started())

    assert kinds(transition) == [UseCredential, AskChallenge]
    assert transition.state.phase is Phase.ATTESTING


def test_an_expired_certificate_means_enrolling_again() -> None:
    stale = replace(CREDENTIAL, not_after=AT - timedelta(seconds=1))

    transition = go(State(credential=stale), Started())

    assert kinds(transition) == [UseCredential, ReportFault, UseCredential, Enrol]
    assert transition.actions[-2] == UseCredential(credential=None)
    assert transition.state.credential is None


def test_an_accepted_enrolment_is_saved_before_it_is_used_to_attest() -> None:
    transition = go(enrolling(), Enrolled(reply=ENROLLED))

    assert kinds(transition) == [UseCredential, Save, AskChallenge]
    assert transition.state.credential is not None
    assert transition.state.credential.device_id == "dev-a"


def test_a_challenge_is_answered_with_the_whole_log_until_the_verifier_has_it() -> None:
    state = State(phase=Phase.ATTESTING, pending=Pending.CHALLENGE, credential=CREDENTIAL)

    first = go(state, Challenged(reply=CHALLENGE))
    later = go(replace(state, log_known=True), Challenged(reply=CHALLENGE))

    assert first.actions == (SendEvidence(challenge=CHALLENGE, whole_log=True),)
    assert later.actions == (SendEvidence(challenge=CHALLENGE, whole_log=False),)


def test_a_judgement_is_reported_saved_and_followed_by_the_next_attestation() -> None:
    transition = go(attesting(failures=3), judged())

    assert kinds(transition) == [ReportVerdict, Save, TendAgents, Wait]
    assert wait_s(transition) == 10
    assert transition.state.failures == 0


@pytest.mark.parametrize(("wanted", "given_s"), [(0.0, 2), (1e8, 100)])
def test_the_verifiers_pace_is_kept_within_our_bounds(wanted: float, given_s: float) -> None:
    assert wait_s(go(attesting(), judged(attest_in_s=wanted))) == given_s


def test_a_contraindicated_device_goes_on_attesting() -> None:
    transition = go(attesting(), judged("contraindicated"))

    assert transition.state.phase is Phase.ATTESTING
    assert transition.state.credential == CREDENTIAL
    assert transition.state.verdict is not None
    assert transition.state.verdict.allowed is False
    assert wait_s(transition) == 10


def test_the_next_challenge_that_came_with_the_answer_is_used() -> None:
    waiting = go(attesting(), judged()).state

    transition = go(waiting, TimerFired(), moment(10))

    assert kinds(transition) == [SendEvidence]
    assert transition.state.challenge is None


def test_a_next_challenge_that_is_about_to_expire_is_replaced() -> None:
    waiting = go(attesting(), judged(attest_in_s=25)).state

    transition = go(waiting, TimerFired(), moment(25))

    assert kinds(transition) == [AskChallenge]


@pytest.mark.parametrize("code", sorted(NONCE_FAULTS))
def test_a_dead_challenge_is_replaced_at_once_but_only_once(code: RefusalCode) -> None:
    first = go(attesting(), failed(code, refused=True))
    again = go(replace(first.state, pending=Pending.EVIDENCE), failed(code, refused=True))

    assert kinds(first) == [ReportFault, AskChallenge]
    assert kinds(again) == [ReportFault, Save, Wait]
    assert wait_s(again) < 60


def test_an_unknown_log_is_sent_whole() -> None:
    transition = go(attesting(), failed("log-unknown", refused=True))
    following = go(transition.state, Challenged(reply=CHALLENGE))

    assert kinds(transition) == [ReportFault, AskChallenge]
    assert following.actions == (SendEvidence(challenge=CHALLENGE, whole_log=True),)


def test_a_whole_log_that_is_still_unknown_backs_off() -> None:
    transition = go(attesting(log_known=False), failed("log-unknown", refused=True))

    assert transition.state.phase is Phase.BACKING_OFF


def test_the_list_goes_on_where_the_verifier_has_it() -> None:
    waiting = go(attesting(), judged(ima_next=70)).state

    transition = go(waiting, TimerFired(), moment(10))

    assert transition.actions == (SendEvidence(challenge=CHALLENGE, whole_log=False, ima_from=70),)


def test_a_list_that_the_verifier_cannot_continue_is_sent_whole_at_once_but_only_once() -> None:
    first = go(attesting(ima_next=70), failed("ima-offset-unknown", refused=True))
    following = go(first.state, Challenged(reply=CHALLENGE))
    again = go(following.state, failed("ima-offset-unknown", refused=True))

    assert kinds(first) == [ReportFault, AskChallenge]
    assert following.actions == (SendEvidence(challenge=CHALLENGE, whole_log=False, ima_from=0),)
    assert kinds(again) == [ReportFault, Save, Wait]
    assert wait_s(again) < 60


def test_log_and_list_that_are_both_unknown_are_both_sent_whole() -> None:
    without_log = go(attesting(ima_next=70), failed("log-unknown", refused=True)).state
    retried = go(without_log, Challenged(reply=CHALLENGE)).state
    without_list = go(retried, failed("ima-offset-unknown", refused=True)).state

    following = go(without_list, Challenged(reply=CHALLENGE))

    assert following.actions == (SendEvidence(challenge=CHALLENGE, whole_log=True, ima_from=0),)


def test_the_list_begins_anew_with_a_new_process_and_a_new_credential() -> None:
    restarted = go(State(credential=CREDENTIAL), Started()).state
    dropped = go(attesting(ima_next=70), failed("device-unknown", refused=True)).state
    enrolled = go(replace(dropped, ima_next=70), Enrolled(reply=ENROLLED)).state
    proven = go(enrolling(), Enrolled(reply=replace(ENROLLED, ima_next=9))).state

    assert (restarted.ima_next, dropped.ima_next, enrolled.ima_next) == (0, 0, 0)
    assert proven.ima_next == 9


@pytest.mark.parametrize("code", sorted(CREDENTIAL_FAULTS))
def test_a_credential_that_is_not_believed_is_replaced_at_once(code: RefusalCode) -> None:
    transition = go(attesting(failures=4), failed(code, refused=True))

    assert kinds(transition) == [ReportFault, UseCredential, Save, Enrol]
    assert UseCredential(credential=None) in transition.actions
    assert transition.state.credential is None


def test_a_fresh_credential_that_is_not_believed_either_backs_off_before_enrolling() -> None:
    first = go(attesting(), failed("device-unknown", refused=True)).state
    enrolled = go(first, Enrolled(reply=ENROLLED)).state

    transition = go(enrolled, failed("device-unknown", refused=True))

    assert kinds(transition) == [ReportFault, UseCredential, Save, Wait]
    assert transition.state.resume is Phase.ENROLLING
    assert wait_s(transition) < 60


@pytest.mark.parametrize("pending", [Pending.CHALLENGE, Pending.EVIDENCE])
def test_an_unreachable_verifier_is_tried_again_with_growing_delays(pending: Pending) -> None:
    delays = []
    state = attesting(pending=pending)
    for _ in range(8):
        transition = go(state, failed("verifier-unreachable"), moment(jitter=1))
        delays.append(wait_s(transition))
        state = replace(go(transition.state, TimerFired()).state, pending=pending)

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert state.credential == CREDENTIAL


def test_backing_off_resumes_what_it_left() -> None:
    for state, driver in ((attesting(), AskChallenge), (enrolling(), Enrol)):
        waiting = go(state, failed("verifier-unreachable")).state

        assert waiting.phase is Phase.BACKING_OFF
        assert kinds(go(waiting, TimerFired())) == [driver]


def test_the_verifiers_retry_after_is_kept() -> None:
    transition = go(attesting(), failed("rate-limited", refused=True, retry_after_s=45))

    assert wait_s(transition) == 45


def test_a_refused_enrolment_waits_long() -> None:
    transition = go(enrolling(), failed("certificate-untrusted", refused=True))

    assert 480 <= wait_s(transition) <= 600
    assert transition.state.resume is Phase.ENROLLING


def test_an_enrolment_refused_for_load_waits_short() -> None:
    assert wait_s(go(enrolling(), failed("overloaded", refused=True))) <= 1


def test_a_device_that_was_not_manufactured_stays_unenrolled_and_looks_again() -> None:
    transition = go(enrolling(), failed("tpm-key-missing"))

    assert transition.state.phase is Phase.UNENROLLED
    assert wait_s(transition) >= 480
    assert kinds(go(transition.state, TimerFired())) == [Enrol]


def test_a_tpm_fault_backs_off_and_is_reported() -> None:
    transition = go(attesting(), failed("tpm-unavailable"))

    assert kinds(transition) == [ReportFault, Save, Wait]
    assert transition.state.credential == CREDENTIAL


def test_a_locked_out_tpm_is_left_alone_for_long() -> None:
    assert wait_s(go(attesting(), failed("tpm-locked-out"))) >= 480


def test_a_revoked_device_asks_rarely_and_keeps_its_certificate() -> None:
    transition = go(attesting(), failed("device-revoked", refused=True))

    assert wait_s(transition) >= 480
    assert transition.state.credential == CREDENTIAL


def test_a_certificate_near_its_end_is_renewed() -> None:
    waiting = go(attesting(), judged()).state
    near = moment(at=CREDENTIAL.not_after - timedelta(hours=20))

    transition = go(waiting, TimerFired(), near)

    assert kinds(transition) == [Enrol]
    assert transition.state.credential == CREDENTIAL


def test_a_short_lived_certificate_is_not_renewed_before_its_last_third() -> None:
    short = replace(CREDENTIAL, obtained_at=AT, not_after=AT + timedelta(hours=3))
    waiting = go(attesting(credential=short), judged()).state

    early = go(waiting, TimerFired(), moment(at=AT + timedelta(hours=1.9)))
    late = go(waiting, TimerFired(), moment(at=AT + timedelta(hours=2.2)))

    assert kinds(early) == [AskChallenge] or kinds(early) == [SendEvidence]
    assert kinds(late) == [Enrol]


def test_a_failed_renewal_goes_on_with_the_certificate_that_still_lives() -> None:
    state = enrolling(credential=CREDENTIAL)

    transition = go(state, failed("certificate-untrusted", refused=True))

    assert kinds(transition) == [ReportFault, AskChallenge]
    assert transition.state.credential == CREDENTIAL
    assert transition.state.renew_at is not None
    assert transition.state.renew_at > AT


def test_a_certificate_that_ended_while_waiting_is_dropped_everywhere() -> None:
    waiting = go(attesting(), judged()).state

    transition = go(waiting, TimerFired(), moment(at=CREDENTIAL.not_after))

    assert kinds(transition) == [ReportFault, UseCredential, Enrol]
    assert transition.state.credential is None


def test_a_success_ends_the_fault() -> None:
    state = go(attesting(), failed("overloaded", refused=True)).state
    back = go(go(state, TimerFired()).state, Challenged(reply=CHALLENGE)).state

    assert state.fault is not None
    assert go(back, judged()).state.fault is None


def test_a_device_that_fell_and_is_well_again_asks_anew_for_its_agents() -> None:
    fallen = go(attesting(), failed("certificate-revoked", refused=True)).state
    again = go(fallen, Enrolled(reply=ENROLLED)).state
    sent = go(again, Challenged(reply=CHALLENGE)).state

    well = go(sent, judged())
    later = go(replace(well.state, pending=Pending.EVIDENCE), judged())

    assert TendAgents(anew=True) in well.actions
    assert TendAgents(anew=False) in later.actions


def test_a_challenge_older_than_what_was_answered_for_an_agent_is_dropped() -> None:
    waiting = go(attesting(), judged(ima_next=70)).state
    assert waiting.challenge is not None

    tended = go(waiting, Tended(ima_next=75)).state

    assert tended.pending is Pending.TIMER
    assert tended.ima_next == 75
    assert go(tended, TimerFired(), moment(10)).actions == (AskChallenge(),)
    assert go(waiting, Tended()).state.ima_next == 70


@pytest.mark.parametrize(
    "event", [Started(), TimerFired(), Enrolled(reply=ENROLLED), Challenged(reply=CHALLENGE)]
)
def test_a_stale_event_changes_nothing(event: Event) -> None:
    state = attesting()

    assert go(state, event) == Transition(state=state)


# --- never stuck -------------------------------------------------------------------------------
CODES = st.sampled_from([code.value for code in RefusalCode] + ["a-code-of-tomorrow"])
FAILURES = st.builds(
    Failed,
    code=CODES,
    reason=st.just("r"),
    refused=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 1e6),
)
CHALLENGES = st.builds(
    ChallengeReply,
    nonce=st.just(b"n"),
    selections=st.just(CHALLENGE.selections),
    expires_in_s=st.floats(0, 1e6),
)
JUDGEMENTS = st.builds(
    Judged,
    reply=st.builds(
        EvidenceReply,
        status=st.sampled_from(["affirming", "warning", "contraindicated", "none"]),
        allowed=st.booleans(),
        reasons=st.just(()),
        result=st.just("jwt"),
        next=CHALLENGES,
        log_known=st.booleans(),
        attest_in_s=st.floats(0, 1e8),
        ima_next=st.integers(0, 500_000),
    ),
)
ENROLMENTS = st.builds(
    Enrolled,
    reply=st.builds(
        EnrolmentReply,
        device_id=st.just("dev-a"),
        certificate_chain_pem=st.just("pem"),
        not_after=st.integers(-100, 10_000_000).map(lambda s: AT + timedelta(seconds=s)),
    ),
)
CHALLENGE_EVENTS = st.builds(Challenged, reply=CHALLENGES)
OUTCOMES = {
    Enrol: ENROLMENTS | FAILURES,
    AskChallenge: CHALLENGE_EVENTS | FAILURES,
    SendEvidence: JUDGEMENTS | FAILURES,
    Wait: st.just(TimerFired()),
}
ANY_EVENT = (
    FAILURES
    | JUDGEMENTS
    | ENROLMENTS
    | CHALLENGE_EVENTS
    | st.sampled_from([Started(), TimerFired()])
)
PENDING_OF = {
    Enrol: Pending.ENROLMENT,
    AskChallenge: Pending.CHALLENGE,
    SendEvidence: Pending.EVIDENCE,
    Wait: Pending.TIMER,
}


SUCCESS_OF = {
    Enrol: Enrolled,
    AskChallenge: Challenged,
    SendEvidence: Judged,
    Wait: TimerFired,
}


@settings(max_examples=100, deadline=None)
@given(stream=st.data(), credential=st.none() | st.just(CREDENTIAL))
def test_whatever_comes_back_the_daemon_is_never_stuck_and_never_forks(
    stream: st.DataObject, credential: Credential | None
) -> None:
    elapsed_s = 0.0
    transition = go(State(credential=credential), Started())
    at_once = 0

    for _ in range(25):
        drivers = [action for action in transition.actions if isinstance(action, DRIVERS)]
        assert len(drivers) == 1
        (driver,) = drivers
        assert transition.state.pending is PENDING_OF[type(driver)]
        if isinstance(driver, Wait):
            assert 0 < driver.seconds <= max(PACING.refused_s, PACING.interval_max_s)
            elapsed_s += driver.seconds
            at_once = 0
        else:
            at_once += 1
        # No fault is answered without a pause for ever.
        assert at_once <= 12
        when = moment(elapsed_s, jitter=stream.draw(st.floats(0, 1)))
        stale = stream.draw(ANY_EVENT)
        event = stream.draw(OUTCOMES[type(driver)])
        if type(stale) not in (SUCCESS_OF[type(driver)], Failed):
            assert go(transition.state, stale, when) == Transition(state=transition.state)
        transition = go(transition.state, event, when)


@given(attempt=st.integers(-5, 10_000), jitter=st.floats(0, 1))
def test_the_backoff_stays_within_its_window(attempt: int, jitter: float) -> None:
    schedule = Backoff(base_s=0.5, cap_s=30)

    assert 0 < schedule.delay_s(attempt, jitter) <= 30
    assert schedule.delay_s(attempt, jitter) <= schedule.window_s(attempt)
