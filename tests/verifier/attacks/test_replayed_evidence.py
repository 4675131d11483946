"""Evidence that is not new: N10 (replay, nonces), N38 (TPM clock and reset counters going back)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from attestation.evidence import Evidence
from attestation.identity import Nonce
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, StepVerdict, TrustTier
from tests.simulators.soft_device import Lies
from tests.verifier.appraisal.courtroom import (
    Courtroom,
    assert_nothing_believed,
    assert_refused,
)
from verifier.appraisal.freshness import ExpectedNonce


@pytest.fixture
def court() -> Courtroom:
    return Courtroom()


def refused_as_stale(result: AttestationResult, code: Code) -> None:
    assert_refused(result, code, step=3)
    assert_nothing_believed(result)


def test_answer_to_a_nonce_of_nobody_is_forged(court: Courtroom) -> None:
    """N10."""
    court.authority = replace(court.authority, keys=(b"another verifier's key, 32 bytes.",))
    theirs = court.nonce()
    court.authority = replace(court.authority, keys=(b"k" * 32,))

    refused_as_stale(court.judge(court.evidence(theirs)), Code.NONCE_FORGED)


def test_answer_to_a_nonce_with_one_bit_changed_is_forged(court: Courtroom) -> None:
    nonce = bytearray(court.nonce())
    nonce[9] ^= 1

    refused_as_stale(court.judge(court.evidence(Nonce(bytes(nonce)))), Code.NONCE_FORGED)


def test_answer_to_a_nonce_made_younger_by_the_device_is_forged(court: Courtroom) -> None:
    nonce = court.nonce()
    court.at += timedelta(minutes=10)
    younger = Nonce(court.nonce()[:8] + nonce[8:])

    refused_as_stale(court.judge(court.evidence(younger)), Code.NONCE_FORGED)


def test_nonce_issued_to_another_device_is_forged(court: Courtroom) -> None:
    """N10: a nonce is bound to one device."""
    refused_as_stale(court.judge(court.evidence(court.nonce("box-0043"))), Code.NONCE_FORGED)


def test_nonce_of_another_length_is_malformed(court: Courtroom) -> None:
    refused_as_stale(court.judge(court.evidence(Nonce(b"n" * 32))), Code.NONCE_MALFORMED)


def test_nonce_answered_too_late_is_expired(court: Courtroom) -> None:
    """N10: a nonce lives two minutes."""
    evidence = court.evidence()
    court.at += timedelta(minutes=2, microseconds=1)

    refused_as_stale(court.judge(evidence), Code.NONCE_EXPIRED)


def test_nonce_answered_just_in_time_is_fresh(court: Courtroom) -> None:
    evidence = court.evidence()
    court.at += timedelta(minutes=2)

    assert court.judge(evidence).status is TrustTier.AFFIRMING


def test_nonce_from_far_in_the_future_is_refused(court: Courtroom) -> None:
    court.at += timedelta(seconds=6)
    evidence = court.evidence()
    court.at -= timedelta(seconds=6)

    refused_as_stale(court.judge(evidence), Code.NONCE_EXPIRED)


def test_same_evidence_sent_twice_is_refused(court: Courtroom) -> None:
    """N10: no store of nonces is needed; the device's own last nonce stops it."""
    evidence = court.evidence()
    court.accept(court.judge(evidence))

    refused_as_stale(court.judge(evidence), Code.NONCE_REUSED)


def test_nonce_answered_twice_with_a_new_quote_is_reused(court: Courtroom) -> None:
    """N10."""
    nonce = court.nonce()
    court.accept(court.judge(court.evidence(nonce)))

    refused_as_stale(court.judge(court.evidence(nonce)), Code.NONCE_REUSED)


def test_nonce_older_than_the_last_one_answered_is_reused(court: Courtroom) -> None:
    earlier = court.nonce()
    court.at += timedelta(seconds=1)
    court.accept(court.judge())

    refused_as_stale(court.judge(court.evidence(earlier)), Code.NONCE_REUSED)


def test_old_quote_under_a_new_nonce_is_refused(court: Courtroom) -> None:
    """N10: the nonce in the message is only believed when the quote was made for it."""
    old, nonce = court.evidence(), court.nonce()
    relabelled = replace(old, nonce=nonce)

    refused_as_stale(court.judge(relabelled), Code.QUALIFYING_DATA_MISMATCH)


@pytest.mark.parametrize("label", ["claims", "firmware-log", "pcr-values"])
def test_part_swapped_under_a_valid_quote_is_refused(court: Courtroom, label: str) -> None:
    honest = court.evidence()
    swapped = tuple(
        (name, bytes(32) if name == label else digest) for name, digest in honest.part_digests
    )

    assert label in dict(swapped)
    refused_as_stale(
        court.judge(replace(honest, part_digests=swapped)), Code.QUALIFYING_DATA_MISMATCH
    )


def test_part_left_out_under_a_valid_quote_is_refused(court: Courtroom) -> None:
    honest = court.evidence()
    fewer = replace(honest, part_digests=honest.part_digests[1:])

    refused_as_stale(court.judge(fewer), Code.QUALIFYING_DATA_MISMATCH)


def quote_with(court: Courtroom, lies: Lies) -> Evidence:
    court.tpm.lies = lies
    return court.evidence()


def test_quote_from_before_the_last_one_is_refused(court: Courtroom) -> None:
    """N38: the TPM's clock goes back within one boot."""
    court.accept(court.judge())

    refused_as_stale(court.judge(quote_with(court, Lies(clock_ms=900))), Code.CLOCK_WENT_BACK)


def test_quote_at_the_very_clock_of_the_last_one_is_a_replay(court: Courtroom) -> None:
    """N10, N38."""
    first = court.judge()
    assert first.clock is not None
    court.accept(first)
    again = quote_with(court, Lies(clock_ms=first.clock.clock_ms))

    refused_as_stale(court.judge(again), Code.EVIDENCE_REPLAYED)


@pytest.mark.parametrize("clock_ms", [0xFFFF << 48, 2**64 - 1])
def test_clock_that_no_tpm_can_reach_is_refused(court: Courtroom, clock_ms: int) -> None:
    """Whoever owns the TPM may set its clock far ahead: no store has room for any such number."""
    result = court.judge(quote_with(court, Lies(clock_ms=clock_ms)))

    refused_as_stale(result, Code.VALUE_OUT_OF_RANGE)


def test_clock_set_beyond_what_a_signed_number_holds_is_refused(court: Courtroom) -> None:
    """TPM2_ClockSet goes up to 0xFFFEFFFFFFFFFFFF, a database's number to 2**63 - 1."""
    result = court.judge(quote_with(court, Lies(clock_ms=2**63)))

    refused_as_stale(result, Code.VALUE_OUT_OF_RANGE)
    assert court.judge(quote_with(court, Lies(clock_ms=2**63 - 1))).clock is not None


def test_quote_from_an_earlier_boot_is_refused(court: Courtroom) -> None:
    """N38: resetCount goes back although the clock goes on."""
    court.tpm.reset_count = 7
    court.accept(court.judge())

    refused_as_stale(
        court.judge(quote_with(court, Lies(reset_count=6))), Code.RESET_COUNT_WENT_BACK
    )


def test_quote_from_before_a_resume_is_refused(court: Courtroom) -> None:
    """N38: restartCount goes back within one resetCount."""
    court.tpm.restart_count = 3
    court.accept(court.judge())
    earlier = quote_with(court, Lies(restart_count=2))

    refused_as_stale(court.judge(earlier), Code.RESET_COUNT_WENT_BACK)


def test_quote_after_a_reboot_is_fresh_whatever_its_clock(court: Courtroom) -> None:
    court.tpm.clock_ms = 10_000
    court.accept(court.judge())
    court.tpm.reset_count += 1
    court.tpm.clock_ms = 20

    assert court.judge().status is TrustTier.AFFIRMING


def test_later_quote_of_the_same_boot_is_fresh(court: Courtroom) -> None:
    court.accept(court.judge())

    assert court.judge().status is TrustTier.AFFIRMING


def test_nonce_of_the_key_before_last_rotation_is_still_ours(court: Courtroom) -> None:
    evidence = court.evidence()
    court.authority = replace(court.authority, keys=(b"n" * 32, b"k" * 32))

    assert court.judge(evidence).status is TrustTier.AFFIRMING


def test_offline_the_wrong_nonce_is_refused(court: Courtroom) -> None:
    evidence = court.evidence()
    court.authority = ExpectedNonce(nonce=b"another nonce")  # type: ignore[assignment]

    refused_as_stale(court.judge(evidence), Code.NONCE_FORGED)


def test_steps_after_a_stale_nonce_are_skipped(court: Courtroom) -> None:
    result = court.judge(court.evidence(court.nonce("box-0043")))

    assert [step.verdict for step in result.steps] == [
        StepVerdict.PASSED,
        StepVerdict.PASSED,
        StepVerdict.FAILED,
        *[StepVerdict.SKIPPED] * 3,
        StepVerdict.PASSED,
    ]
