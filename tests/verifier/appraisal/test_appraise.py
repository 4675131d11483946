"""The bench, its record, and what it needs to be fast and right."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attestation.errors import InputError, MalformedInput
from attestation.evidence import FirmwareLog
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.refusals import RefusalCode as Code
from attestation.result import Claim, StepVerdict, TrustTier
from tests.verifier.appraisal.courtroom import (
    DATA,
    NOW,
    SHA256,
    Courtroom,
    firmware_log,
    replayed_log,
    shipped_policy,
)
from tests.verifier.attacks.log_forge import first, forge
from verifier.appraisal.appraise import STEPS
from verifier.appraisal.freshness import NonceAuthority, mark_seen, microseconds
from verifier.appraisal.measured_state import attach_log
from verifier.appraisal.policy import Coverage, Match
from verifier.appraisal.replay_cache import ReplayCache, judge_log
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary


@pytest.fixture
def court() -> Courtroom:
    return Courtroom()


# --- the record ----------------------------------------------------------------------------


def test_honest_device_passes_all_seven_steps(court: Courtroom) -> None:
    result = court.judge()

    assert [step.name for step in result.steps] == list(STEPS)
    assert [step.number for step in result.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert {step.verdict for step in result.steps} == {StepVerdict.PASSED}
    assert result.status is TrustTier.AFFIRMING
    assert result.reasons == ()


def test_result_carries_what_was_proven(court: Courtroom) -> None:
    evidence = court.evidence()

    result = court.judge(evidence)

    assert (result.nonce, result.device, result.at) == (evidence.nonce, "box-0042", NOW)
    assert (result.policy_id, result.reference_set) == ("linux-server/1", "box/1")
    assert result.evidence_digest == evidence.digest
    assert result.firmware_version == court.tpm.firmware_version
    assert result.clock is not None


def test_same_arguments_give_the_same_result(court: Courtroom) -> None:
    evidence = court.evidence()

    assert court.judge(evidence) == court.judge(evidence)


def test_fault_of_our_own_is_no_accusation(court: Courtroom) -> None:
    court.reference = None  # type: ignore[assignment]

    with pytest.raises(AttributeError):
        court.judge()


def test_clock_and_nonce_of_a_result_become_the_last_seen_mark(court: Courtroom) -> None:
    result = court.judge()
    assert result.clock is not None

    mark = mark_seen(result.clock, result.nonce)

    assert (mark.clock, mark.issued_us) == (result.clock, microseconds(NOW))


def test_enrolment_seen_again_keeps_its_key_and_all_else(court: Courtroom) -> None:
    result = court.judge()
    assert result.clock is not None

    after = court.enrolment.seen(mark_seen(result.clock, result.nonce))

    assert after.ak is court.enrolment.ak
    assert replace(after, last_seen=None) == court.enrolment


# --- reference values ----------------------------------------------------------------------


def test_without_reference_values_a_device_is_a_warning(court: Courtroom) -> None:
    court.reference = ReferenceLibrary()

    result = court.judge()

    assert result.status is TrustTier.WARNING
    assert result.vector.as_claims() == {
        Claim.INSTANCE_IDENTITY: 2,
        Claim.HARDWARE: -33,
        Claim.CONFIGURATION: 36,
        Claim.EXECUTABLES: 33,
    }
    assert {one.code for one in result.findings if one.value not in {0, 2}} == {
        Code.REFERENCE_MISSING
    }


def test_development_policy_warns_where_the_server_policy_accuses(court: Courtroom) -> None:
    other = replayed_log(DATA / "google_go-eventlog/tpm/ubuntu-2104-no-dbx.bin")
    court.log = firmware_log(DATA / "google_go-eventlog/tpm/ubuntu-2104-no-dbx.bin")
    court.tpm.load_pcrs({SHA256: dict.fromkeys(range(16), bytes(32))})
    court.tpm.load_pcrs(other.pcrs)

    strict = court.judge()
    court.policy = shipped_policy("development")
    soft = court.judge()

    assert (strict.status, soft.status) == (TrustTier.CONTRAINDICATED, TrustTier.WARNING)


def test_development_policy_still_accuses_a_log_that_does_not_replay(court: Courtroom) -> None:
    court.policy = shipped_policy("development")
    court.tpm.extend(SHA256, 4, b"\x01" * 32)

    assert court.judge().status is TrustTier.CONTRAINDICATED


def with_match(court: Courtroom, pcr: int, match: Match) -> None:
    """Judge one PCR in its own way."""
    rules = []
    for rule in court.policy.rules:
        rest = tuple(index for index in rule.indices if index != pcr)
        if rest:
            rules.append(replace(rule, indices=rest))
        if pcr in rule.indices:
            rules.append(replace(rule, indices=(pcr,), match=match, coverage=Coverage.REQUIRED))
    court.policy = replace(court.policy, rules=tuple(rules))


def boot_without_one_command(court: Courtroom) -> None:
    """Boot honestly with one of the boot loader's commands left out of PCR 8."""
    assert court.log is not None
    court.log = forge(
        court.log, lambda events: [e for n, e in enumerate(events) if n != first(events, 8)]
    )
    court.tpm.load_pcrs(replay(parse_firmware_log(court.log), (SHA256,)).pcrs)


def test_known_events_excuse_an_unknown_value_only_where_the_policy_says_so(
    court: Courtroom,
) -> None:
    boot_without_one_command(court)
    assert court.judge().vector.executables == 96

    with_match(court, 8, Match.EVENTS)

    assert court.judge().status is TrustTier.AFFIRMING


def test_known_events_excuse_nothing_when_the_log_does_not_replay(court: Courtroom) -> None:
    with_match(court, 8, Match.EVENTS)
    court.tpm.extend(SHA256, 8, b"\x01" * 32)

    assert court.judge().vector.executables == 96


def test_pcr_judged_by_its_log_needs_no_reference(court: Courtroom) -> None:
    boot_without_one_command(court)
    with_match(court, 8, Match.LOG)

    result = court.judge()

    assert result.status is TrustTier.AFFIRMING
    assert "PCR 8 (sha256): as the firmware log says" in [one.reason for one in result.findings]


def test_device_matches_the_set_that_was_learnt_from_it(court: Courtroom) -> None:
    values = court.tpm.read_pcrs(court.policy.selections)
    second = learn("twin", replayed_log(), values, court.policy.selections, NOW, version=9)
    court.reference = ReferenceLibrary(sets=(second,))

    assert court.judge().reference_set == "twin/9"


# --- logs seen before ----------------------------------------------------------------------


def test_log_seen_before_may_be_sent_as_its_digest(court: Courtroom) -> None:
    court.replays = ReplayCache()
    whole = court.judge()

    brief = court.judge(court.evidence(digest_only=True))

    assert brief.findings == whole.findings
    assert brief.status is TrustTier.AFFIRMING


def test_digest_of_a_log_never_seen_is_an_input_error(court: Courtroom) -> None:
    court.replays = ReplayCache()

    with pytest.raises(MalformedInput) as caught:
        court.judge(court.evidence(digest_only=True))

    assert caught.value.code is Code.LOG_UNKNOWN


def test_digest_of_an_unknown_log_tells_nothing_to_a_stranger(court: Courtroom) -> None:
    """Signature, binding and nonce are judged first."""
    result = court.judge(court.evidence(court.nonce("box-0043"), digest_only=True))

    assert {one.code for one in result.findings} == {Code.NONCE_FORGED}


def test_log_that_the_verifier_kept_can_be_attached(court: Courtroom) -> None:
    assert court.log is not None
    evidence = court.evidence(digest_only=True)

    assert court.judge(attach_log(evidence, court.log)).status is TrustTier.AFFIRMING


def test_other_log_than_the_digest_names_cannot_be_attached(court: Courtroom) -> None:
    assert court.log is not None

    with pytest.raises(MalformedInput) as caught:
        attach_log(court.evidence(digest_only=True), court.log + b"\x00")

    assert caught.value.code is Code.LOG_UNKNOWN


def test_log_of_another_machine_by_digest_does_not_replay(court: Courtroom) -> None:
    """Whoever knows the digest of a good log gains nothing: the PCRs decide."""
    other = firmware_log(DATA / "google_go-eventlog/tpm/ubuntu-2104-no-dbx.bin")
    court.replays = ReplayCache()
    court.replays.put((hashlib.sha256(other).digest(), (SHA256,)), judge_log(other, (SHA256,)))
    court.log = other

    result = court.judge(court.evidence(digest_only=True))

    assert result.status is TrustTier.CONTRAINDICATED


def test_malformed_log_is_not_remembered(court: Courtroom) -> None:
    court.replays = ReplayCache()
    evidence = court.evidence()
    broken = replace(evidence, firmware_log=FirmwareLog(digest=b"d" * 32, content=b"\x00" * 9))

    with pytest.raises(InputError):
        court.judge(broken)

    assert len(court.replays) == 0


def test_cache_forgets_the_longest_unused_log_beyond_its_entries() -> None:
    judged = judge_log(firmware_log(), (SHA256,))
    cache = ReplayCache(entries=2)
    for name in (b"a", b"b"):
        cache.put((name, (SHA256,)), judged)
    cache.get((b"a", (SHA256,)))

    cache.put((b"c", (SHA256,)), judged)

    assert [cache.get((name, (SHA256,))) is judged for name in (b"a", b"b", b"c")] == [
        True,
        False,
        True,
    ]


def test_cache_stays_within_its_bytes() -> None:
    judged = judge_log(firmware_log(), (SHA256,))
    cache = ReplayCache(size=2 * judged.size)
    for number in range(5):
        cache.put((bytes([number]), (SHA256,)), judged)

    assert len(cache) == 2

    tiny = ReplayCache(size=judged.size - 1)
    tiny.put((b"a", (SHA256,)), judged)
    assert len(tiny) == 0


def test_cache_does_not_answer_for_other_banks() -> None:
    cache = ReplayCache()
    cache.put((b"a", (SHA256,)), judge_log(firmware_log(), (SHA256,)))

    assert cache.get((b"a", ())) is None


# --- nonces --------------------------------------------------------------------------------


def test_nonces_of_one_moment_differ_by_their_entropy() -> None:
    authority = NonceAuthority(keys=(b"k" * 32,), ttl=timedelta(minutes=1))
    nonces = {authority.issue("box", NOW, bytes([n]) * 16) for n in range(8)}

    assert len(nonces) == 8
    assert {len(nonce) for nonce in nonces} == {56}


@pytest.mark.parametrize("keys", [(), (b"short",), (b"k" * 32, b"")])
def test_authority_without_a_strong_key_is_refused(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="32"):
        NonceAuthority(keys=keys, ttl=timedelta(minutes=1))


def test_authority_without_a_lifetime_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        NonceAuthority(keys=(b"k" * 32,), ttl=timedelta(0))


def test_nonce_takes_exactly_sixteen_random_bytes() -> None:
    with pytest.raises(ValueError, match="16"):
        NonceAuthority(keys=(b"k" * 32,), ttl=timedelta(1)).issue("box", NOW, b"short")


def test_microseconds_are_exact() -> None:
    at = datetime(2026, 5, 1, 0, 0, 0, 123457, tzinfo=UTC)

    assert microseconds(at) % 1_000_000 == 123457
