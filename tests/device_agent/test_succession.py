"""Renewal, exchange of the key and loss: a whole device in small, killed wherever it can be."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.pcr import PcrSelection
from device_agent.daemon import step
from device_agent.lifecycle import (
    DRIVERS,
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
    Pending,
    Phase,
    ReportFault,
    Retired,
    RetireKey,
    Save,
    SendEvidence,
    Started,
    State,
    TimerFired,
    UseCredential,
    Wait,
)
from device_agent.pacing import Pacing, Renewal
from device_agent.ports import ChallengeReply, EnrolmentReply, EvidenceReply, KeyRole
from device_agent.state.files import SavedState, decode_state, encode_state
from device_agent.transport.backoff import Backoff

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIFE = 30 * DAY
ONE, TWO = KeyRole.LDEVID, KeyRole.LDEVID_2
CHALLENGE = ChallengeReply(
    nonce=b"n" * 56,
    selections=(PcrSelection(bank=HashAlgorithm.SHA256, indices=(0, 1)),),
    expires_in_s=30,
)


class Killed(Exception):
    """The process is gone."""


def pacing(**renewal: object) -> Pacing:
    return Pacing(
        backoff=Backoff(base_s=1, cap_s=60),
        refused_s=600,
        interval_min_s=2,
        interval_max_s=3600,
        renewal=Renewal(**renewal),  # type: ignore[arg-type]
    )


@dataclass
class World:
    """A device's TPM slots, its state file and its verifier; ``kill_at`` counts what happens.

    Keys are numbers, and a certificate's text names the key that it is for.
    """

    pacing: Pacing = field(default_factory=pacing)
    at: datetime = AT
    jitter: float = 0.5
    life: timedelta = LIFE
    slots: dict[KeyRole, int] = field(default_factory=dict)
    saved: bytes | None = None
    kill_at: int = -1
    happened: int = 0
    made: int = 0
    unloved: frozenset[int] = frozenset()
    """Keys whose certificates the verifier gives and then does not take."""
    refusal: str = ""
    """Code with which it refuses every enrolment."""
    enrolments: list[int] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    state: State = field(default_factory=State)
    spoken: Credential | None = None
    verifier_ahead: timedelta = timedelta(0)
    asked: int = 0
    attest_in_s: float = 3600
    lost: bool = False
    """The TPM was cleared."""

    def happen(self) -> None:
        """Let one thing happen that a kill can come before."""
        self.happened += 1
        if self.happened == self.kill_at:
            raise Killed

    def works(self, credential: Credential | None) -> bool:
        return (
            credential is not None
            and credential.certificate_chain_pem == f"key {self.slots.get(credential.slot)}"
        )

    def boot(self) -> None:
        """Begin a new process with what the state file holds."""
        self.spoken = None
        self.state = decode_state(self.saved, "x").resumed() if self.saved else State()

    def run(self, until: datetime) -> None:
        """Live until that moment; :class:`Killed` if killed before."""
        if self.state.pending is not Pending.NOTHING:
            self.boot()
        events: deque[Event] = deque([Started()])
        while events:
            now = Moment(at=self.at, elapsed_s=(self.at - AT).total_seconds(), jitter=self.jitter)
            transition = step(self.state, events.popleft(), now, self.pacing)
            self.state = transition.state
            drivers = [action for action in transition.actions if isinstance(action, DRIVERS)]
            assert len(drivers) <= 1
            for action in transition.actions:
                if isinstance(action, Wait) and self.at >= until:
                    return
                if (outcome := self.perform(action)) is not None:
                    events.append(outcome)

    def perform(self, action: Action) -> Event | None:
        self.happen()
        match action:
            case Enrol():
                return self.enrol(action)
            case AskChallenge() | SendEvidence():
                return self.attest(action)
            case Wait():
                self.at += timedelta(seconds=max(action.seconds, 1))
                return TimerFired()
            case UseCredential():
                self.spoken = action.credential
                assert self.lost or action.credential is None or self.works(action.credential)
            case RetireKey():
                # What speaks now must never be what is evicted.
                assert self.state.spoken is not None
                assert self.state.spoken.slot is not action.slot
                self.slots.pop(action.slot, None)
                self.happen()
                return Retired(slot=action.slot)
            case Save():
                self.saved = encode_state(SavedState.of(self.state, self.at, 0))
            case ReportFault():
                self.faults.append(action.fault)
            case _:
                pass
        return None

    def enrol(self, action: Enrol) -> Event:
        self.asked += 1
        if self.refusal:
            return Failed(code=self.refusal, reason="because", refused=True)
        if action.fresh:
            self.slots.pop(action.slot, None)
            self.happen()
        if action.slot not in self.slots:
            self.made += 1
            self.slots[action.slot] = self.made
            self.happen()
        key = self.slots[action.slot]
        self.enrolments.append(key)
        self.happen()
        theirs = self.at + self.verifier_ahead
        return Enrolled(
            reply=EnrolmentReply(
                device_id="dev-a",
                certificate_chain_pem=f"key {key}",
                not_after=theirs + self.life,
                not_before=theirs,
            )
        )

    def attest(self, action: AskChallenge | SendEvidence) -> Event:
        if not self.works(self.spoken):
            return Failed(code="tpm-key-missing", reason="no such key")
        assert self.spoken is not None
        key = self.slots[self.spoken.slot]
        if key in self.unloved:
            return Failed(code="client-certificate-wrong", reason="not you", refused=True)
        if isinstance(action, AskChallenge):
            return Challenged(reply=CHALLENGE)
        self.judged.append(key)
        return Judged(
            reply=EvidenceReply(
                status="affirming",
                allowed=True,
                reasons=(),
                result="jwt",
                next=CHALLENGE,
                log_known=True,
                attest_in_s=self.attest_in_s,
            )
        )


def enrolled(world: World | None = None) -> World:
    """Return a device that has enrolled and attested."""
    world = world or World()
    world.boot()
    world.run(world.at + timedelta(minutes=1))
    assert world.judged
    return world


# --- renewal -----------------------------------------------------------------------------------
@pytest.mark.parametrize(("jitter", "share"), [(0.0, 0.5), (0.5, 0.6), (1.0, 0.7)])
def test_a_certificate_is_renewed_at_its_share_of_life_and_the_jitter(
    jitter: float, share: float
) -> None:
    world = enrolled(World(pacing=pacing(share=0.5, spread=0.2), jitter=jitter))
    due = AT + LIFE * share

    world.run(due - timedelta(hours=2))
    before = len(world.enrolments)
    world.boot()
    world.run(due + timedelta(hours=2))

    assert (before, len(world.enrolments)) == (1, 2)
    assert world.enrolments == [1, 1]


def test_a_fleet_that_enrolled_together_does_not_renew_together() -> None:
    moments = {enrolled(World(jitter=dice / 10)).state.renew_at or AT for dice in range(11)}

    assert len(moments) == 11
    assert max(moments) - min(moments) == LIFE * 0.1


def test_the_moment_of_renewal_does_not_change_with_a_restart() -> None:
    world = enrolled()
    planned = world.state.renew_at
    world.jitter = 0.9

    world.boot()
    world.run(world.at + DAY)

    assert world.state.renew_at == planned


def test_a_failed_renewal_is_tried_again_while_the_old_certificate_goes_on() -> None:
    world = enrolled()
    world.refusal = "overloaded"
    world.boot()
    world.run(AT + LIFE * 0.8)
    failures = world.state.renew_failures
    assert failures > 5
    assert len(world.judged) > 100
    assert world.state.renewal_fault is not None
    assert world.state.fault is None

    world.refusal = ""
    world.boot()
    world.run(AT + LIFE * 0.82)

    assert world.enrolments == [1, 1]
    assert (world.state.renew_failures, world.state.renewal_fault) == (0, None)


def test_why_a_renewal_failed_outlives_a_restart_and_a_good_judgement() -> None:
    world = enrolled()
    world.refusal = "certificate-untrusted"
    world.boot()
    world.run(AT + LIFE * 0.8)
    assert world.saved is not None

    fault = decode_state(world.saved, "x").renewal_fault

    assert fault is not None
    assert fault.code == "certificate-untrusted"


def test_a_certificate_that_ends_unrenewed_means_enrolling_as_at_first() -> None:
    world = enrolled()
    world.refusal = "store-unavailable"
    world.boot()
    world.run(AT + LIFE + DAY)
    assert any(fault.code == "certificate-expired" for fault in world.faults)
    assert world.state.credential is None

    world.refusal = ""
    world.boot()
    world.run(AT + LIFE + 2 * DAY)

    assert world.works(world.state.credential)


# --- exchange of the key -----------------------------------------------------------------------
def due_for_exchange(**more: object) -> World:
    """Return a device whose key is as old as it may get, before it notices."""
    world = enrolled(World(pacing=pacing(rotate_after=10 * DAY)))
    world.at = AT + 11 * DAY
    world = replace(world, happened=0, judged=[], enrolments=[], **more)  # type: ignore[arg-type]
    world.boot()
    return world


def test_a_key_is_exchanged_at_its_age_and_the_old_one_evicted() -> None:
    world = due_for_exchange()

    world.run(world.at + timedelta(hours=3))

    assert world.slots == {TWO: 2}
    assert world.state.credential is not None
    assert world.state.credential.slot is TWO
    assert world.state.candidate is None
    assert world.enrolments == [2]


def test_a_key_goes_back_to_the_first_slot_with_the_next_exchange() -> None:
    world = due_for_exchange()
    world.run(AT + 22 * DAY)

    assert world.slots == {ONE: 3}
    assert world.works(world.state.credential)


def test_a_renewal_in_the_other_slot_keeps_slot_and_age_of_the_key() -> None:
    world = due_for_exchange()
    world.run(world.at + timedelta(hours=3))
    assert world.state.credential is not None
    since = world.state.credential.key_since
    world.pacing = pacing()

    world.boot()
    world.run(world.state.renew_at + DAY)  # type: ignore[operator]

    assert world.enrolments == [2, 2]
    assert world.state.credential.slot is TWO
    assert world.state.credential.key_since == since


def test_no_kill_anywhere_in_an_exchange_loses_the_identity_or_makes_two() -> None:
    undisturbed = due_for_exchange()
    undisturbed.run(undisturbed.at + timedelta(hours=3))
    assert undisturbed.happened > 15

    for moment in range(1, undisturbed.happened + 1):
        world = due_for_exchange(kill_at=moment)
        with pytest.raises(Killed):
            world.run(world.at + timedelta(hours=3))
        world.boot()
        # Whatever was written names a key that is there.
        assert world.works(world.state.spoken)
        begun = world.at
        world.run(begun + timedelta(hours=3))

        assert world.works(world.state.credential), moment
        assert world.state.credential is not None
        assert world.state.credential.slot is TWO
        assert set(world.slots) == {TWO}, moment
        assert (world.state.candidate, world.state.retiring) == (None, None)
        assert len(world.enrolments) <= 2, moment
        assert not world.faults, moment


def test_a_key_that_no_line_names_is_evicted_before_the_next_one_is_made() -> None:
    world = due_for_exchange()
    world.slots[TWO] = 99

    world.run(world.at + timedelta(hours=3))

    assert world.enrolments == [2]
    assert world.slots == {TWO: 2}


def test_no_kill_anywhere_in_a_refused_exchange_loses_what_was() -> None:
    undisturbed = due_for_exchange(unloved=frozenset(range(2, 99)))
    undisturbed.run(undisturbed.at + timedelta(minutes=1))
    assert undisturbed.slots == {ONE: 1}
    assert undisturbed.judged[-1] == 1

    for moment in range(1, undisturbed.happened + 1):
        world = due_for_exchange(unloved=frozenset(range(2, 99)), kill_at=moment)
        with pytest.raises(Killed):
            world.run(world.at + timedelta(minutes=1))
        world.boot()
        assert world.works(world.state.spoken)
        world.run(world.at + timedelta(minutes=1))

        assert world.works(world.state.credential), moment
        assert world.slots == {ONE: 1}, moment
        assert world.judged[-1] == 1
        assert world.state.renewal_fault is not None
        assert world.state.renewal_fault.code == "client-certificate-wrong"


def test_a_refused_exchange_is_tried_again_only_after_a_long_pause() -> None:
    world = due_for_exchange(unloved=frozenset({2}))
    world.run(world.at)
    assert world.slots == {ONE: 1}
    assert world.state.rotate_at is not None
    assert world.state.rotate_at >= world.at + timedelta(minutes=7)

    world.boot()
    world.run(world.at + timedelta(hours=3))

    assert world.slots == {TWO: 3}
    assert world.state.renewal_fault is None


def test_a_refused_exchange_is_not_asked_for_again_within_its_pause_nor_by_a_restart() -> None:
    world = due_for_exchange(refusal="device-revoked", asked=0, attest_in_s=60)

    world.run(world.at + timedelta(minutes=3))
    world.run(world.at + timedelta(minutes=3))

    assert world.asked == 1
    assert len(world.judged) > 5


def test_a_failed_exchange_leaves_the_renewal_where_it_was_planned() -> None:
    world = due_for_exchange(refusal="overloaded")
    planned = world.state.renew_at

    world.run(world.at + timedelta(minutes=1))

    assert world.state.renew_at == planned
    assert world.state.rotate_at is not None
    assert world.judged


def test_a_key_that_could_not_be_evicted_is_not_confused_with_the_next_one() -> None:
    """The eviction failed, and the next exchange made its key in that very slot."""
    credential = Credential(
        device_id="dev-a",
        certificate_chain_pem="key 2",
        obtained_at=AT,
        not_after=AT + LIFE,
        slot=TWO,
    )
    world = World(pacing=pacing(rotate_after=DAY), slots={ONE: 1, TWO: 2}, made=2, at=AT + 2 * DAY)
    world.state = State(credential=credential, slot=TWO, retiring=ONE, rotating=True)
    taken = step(
        replace(world.state, phase=Phase.ENROLLING, pending=Pending.ENROLMENT),  # type: ignore[arg-type]
        Enrolled(
            reply=EnrolmentReply(
                device_id="dev-a", certificate_chain_pem="key 3", not_after=world.at + LIFE
            )
        ),
        Moment(at=world.at, elapsed_s=0, jitter=0),
        world.pacing,
    ).state

    assert taken.candidate is not None
    assert taken.candidate.slot is ONE
    assert taken.retiring is None


@settings(max_examples=150, deadline=None)
@given(stream=st.data())
def test_no_sequence_of_kills_and_refusals_ever_leaves_a_device_without_a_key(
    stream: st.DataObject,
) -> None:
    world = enrolled(World(pacing=pacing(rotate_after=3 * DAY)))
    for _ in range(stream.draw(st.integers(1, 6))):
        world.kill_at = world.happened + stream.draw(st.integers(1, 60))
        world.unloved = frozenset(
            world.made + 1 + offset for offset in stream.draw(st.sets(st.integers(0, 2)))
        )
        world.refusal = stream.draw(st.sampled_from(["", "", "overloaded", "device-revoked"]))
        world.at += stream.draw(st.integers(0, 5)) * DAY
        try:
            world.run(world.at + stream.draw(st.integers(1, 4)) * DAY)
        except Killed:
            assert world.saved is not None
            assert world.works(decode_state(world.saved, "x").resumed().spoken)
        world.boot()
    world.kill_at, world.unloved, world.refusal = -1, frozenset(), ""

    world.run(world.at + 4 * DAY)

    assert world.works(world.state.credential)
    assert world.state.credential is not None
    assert set(world.slots) == {world.state.credential.slot}


# --- loss --------------------------------------------------------------------------------------
def test_a_lost_state_file_means_enrolling_as_at_first() -> None:
    world = due_for_exchange()
    world.run(world.at + timedelta(hours=3))
    world.saved = None

    world.boot()
    world.run(world.at + timedelta(hours=3))

    assert world.works(world.state.credential)
    # The key in the second slot is named by nothing any more; the next exchange evicts it.
    world.run(world.at + 11 * DAY)
    assert world.works(world.state.credential)
    assert len(world.slots) == 1


def test_a_key_lost_with_the_tpms_owner_means_enrolling_as_at_first() -> None:
    world = enrolled()
    world.slots.clear()

    world.boot()
    world.lost = True
    world.run(world.at + DAY)

    assert world.works(world.state.credential)


# --- clocks ------------------------------------------------------------------------------------
def test_a_certificate_that_begins_a_little_later_is_used() -> None:
    world = enrolled(World(verifier_ahead=timedelta(minutes=4)))

    assert set(world.judged) == {1}
    assert not world.faults


def test_a_clock_that_is_far_behind_lets_the_certificate_rest_and_says_so() -> None:
    world = World(verifier_ahead=timedelta(minutes=6))
    world.boot()

    world.run(AT + timedelta(seconds=30))

    assert world.enrolments == [1]
    assert not world.judged
    assert world.faults[0].code == "clock-wrong"
    assert "behind: 2026-03-01T12:00:00+00:00 here" in world.faults[0].reason

    world.run(AT + timedelta(minutes=10))
    assert world.judged
    assert world.state.fault is None
    assert world.enrolments == [1]


def test_a_clock_that_is_far_ahead_lets_the_certificate_rest_until_it_is_mended() -> None:
    world = World(verifier_ahead=-2 * LIFE)
    world.boot()
    world.run(AT + timedelta(hours=1))
    assert world.enrolments == [1]
    assert {fault.code for fault in world.faults} == {"clock-wrong"}
    assert "ahead" in world.faults[0].reason

    world.at -= 2 * LIFE
    world.verifier_ahead = timedelta(0)
    mended = world.at
    world.boot()
    world.run(mended + timedelta(hours=2))
    assert world.judged
    assert world.state.renew_at is not None
    assert world.state.renew_at < mended + LIFE

    world.boot()
    world.run(mended + LIFE)

    assert world.enrolments == [1, 1]
    assert world.works(world.state.credential)
