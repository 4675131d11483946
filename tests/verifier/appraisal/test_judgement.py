"""A remembered judgement is that of the very same state, policy and library, or is not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from attestation.errors import MalformedInput
from attestation.evidence import Evidence, Quote, qualifying_data
from attestation.logs.event_types import EventType
from attestation.logs.replay import replay
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from attestation.pcr import PcrSelection
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, TrustTier
from attestation.wire.evidence_codec import decode_evidence
from tests.verifier.appraisal.courtroom import (
    DEVICE,
    SHA256,
    Courtroom,
    assert_refused,
    firmware_log,
    shipped_policy,
)
from tests.verifier.attacks.log_forge import first, forge
from verifier.appraisal.agent_rules import AgentRules
from verifier.appraisal.policy import AppraisalPolicy, Match, load_policy
from verifier.appraisal.replay_cache import JudgedLog, ReplayCache, judge_log
from verifier.appraisal.runtime import RuntimeRules
from verifier.reference_values.model import ReferenceLibrary


@pytest.fixture
def court() -> Courtroom:
    """A device that was judged once, with a verifier that remembers."""
    court = Courtroom()
    court.replays = ReplayCache()
    court.accept(court.judge())
    assert len(log_of(court).judgements) == 1
    return court


def log_of(court: Courtroom) -> JudgedLog:
    assert court.replays is not None
    [judged] = court.replays._kept.values()
    return judged


def judged_twice(court: Courtroom, evidence: Evidence) -> AttestationResult:
    """Judge with and without memory; both must say the same in every word."""
    seen = court.judge(evidence)
    with_memory, court.replays = court.replays, ReplayCache()
    content = court.log
    assert content is not None
    log = evidence.firmware_log
    assert log is not None
    court.replays.put((log.digest, court.policy.banks), judge_log(content, court.policy.banks))
    assert court.judge(evidence) == seen
    court.replays = with_memory
    return seen


def kept(court: Courtroom) -> int:
    return len(log_of(court).judgements)


def test_same_state_is_judged_from_memory_with_the_same_words(court: Courtroom) -> None:
    [judgement] = log_of(court).judgements.values()
    result = judged_twice(court, court.evidence(digest_only=True))
    assert result.status is TrustTier.AFFIRMING
    assert kept(court) == 1
    assert result.boot is judgement.boot
    assert result.steps[3:] == judgement.steps


def test_another_device_in_the_same_state_keeps_its_own_name(court: Courtroom) -> None:
    court.enrolment = replace(court.enrolment, device=type(DEVICE)("box-0043"))
    evidence = court.evidence(court.nonce("box-0043"), digest_only=True)
    result = judged_twice(court, evidence)
    assert kept(court) == 1
    assert result.device == "box-0043"
    assert "box-0043" in result.findings[0].reason
    assert "box-0042" not in repr(result)


def test_another_policy_judges_anew(court: Courtroom) -> None:
    rules = tuple(replace(rule, known=32) for rule in court.policy.rules)
    court.policy = replace(court.policy, rules=rules)
    assert judged_twice(court, court.evidence()).status is TrustTier.WARNING
    assert kept(court) == 2


def test_another_library_judges_anew(court: Courtroom) -> None:
    court.reference = ReferenceLibrary()
    assert judged_twice(court, court.evidence()).status is TrustTier.WARNING


def test_what_was_learnt_and_not_reviewed_is_judged_anew(court: Courtroom) -> None:
    [one] = court.reference.sets
    court.reference = ReferenceLibrary(sets=(replace(one, to_review=frozenset({4})),))
    assert judged_twice(court, court.evidence()).status is TrustTier.WARNING


@pytest.mark.parametrize("pcr", range(10))
def test_a_changed_pcr_judges_anew(court: Courtroom, pcr: int) -> None:
    values = dict(court.tpm.read_pcrs(court.policy.selections)[SHA256])
    court.tpm.load_pcrs({SHA256: {**values, pcr: b"\xee" * 32}})
    result = judged_twice(court, court.evidence(digest_only=True))
    assert result.status is TrustTier.CONTRAINDICATED
    assert kept(court) == 1


def test_values_sent_that_are_not_those_quoted_are_refused(court: Courtroom) -> None:
    honest = court.evidence(digest_only=True)
    values = {**honest.pcr_values[SHA256], 4: b"\xee" * 32}
    for lie in ({SHA256: values}, {}):
        result = judged_twice(court, court.requote(replace(honest, pcr_values=lie)))
        if lie:
            assert_refused(result, Code.PCR_DIGEST_MISMATCH, step=4)
        else:
            assert result.status is TrustTier.AFFIRMING


def test_values_judged_before_do_not_stand_for_what_is_quoted_now(court: Courtroom) -> None:
    remembered = court.tpm.read_pcrs(court.policy.selections)
    changed_value(court)
    evidence = decode_evidence(court.message(values=remembered, digest_only=True))
    assert_refused(judged_twice(court, evidence), Code.PCR_DIGEST_MISMATCH, step=4)


def test_values_changed_after_they_were_judged_are_refused(court: Courtroom) -> None:
    honest = court.evidence()
    values = dict(honest.pcr_values[SHA256])
    given = replace(honest, pcr_values={SHA256: values})
    log_of(court).judgements.clear()
    assert court.judge(given).status is TrustTier.AFFIRMING
    assert kept(court) == 1
    values[4] = b"\xee" * 32
    assert_refused(court.judge(given), Code.PCR_DIGEST_MISMATCH, step=4)


def test_another_selection_is_refused(court: Courtroom) -> None:
    honest = court.evidence(digest_only=True)
    wanted = qualifying_data(honest.nonce, honest.part_digests)
    [asked] = court.policy.selections
    other = PcrSelection(bank=SHA256, indices=(*asked.indices, 16))
    quote = court.tpm.quote((other,), wanted)
    evidence = replace(honest, quote=Quote(attest=quote.attest, signature=quote.signature))
    assert_refused(judged_twice(court, evidence), Code.PCR_SELECTION_WRONG, step=4)


def test_a_selection_that_digests_alike_is_refused(court: Courtroom) -> None:
    """PCRs that hold the same value can change places without a change of the pcrDigest."""
    [asked] = court.policy.selections
    values = court.tpm.read_pcrs(court.policy.selections)[SHA256]
    court.tpm.load_pcrs({SHA256: {**values, 15: values[14]}})
    honest = court.evidence(digest_only=True)
    wanted = qualifying_data(honest.nonce, honest.part_digests)
    other = PcrSelection(bank=SHA256, indices=(*asked.indices[:-1], 15))
    quote = court.tpm.quote((other,), wanted)
    evidence = replace(honest, quote=Quote(attest=quote.attest, signature=quote.signature))
    assert_refused(judged_twice(court, evidence), Code.PCR_SELECTION_WRONG, step=4)


def told_otherwise(events: list[UnverifiedEvent]) -> list[UnverifiedEvent]:
    """Change what an event says, not what it measured."""
    place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
    return [*events[:place], events[place]._replace(event=b"told"), *events[place + 1 :]]


def test_another_log_to_the_same_values_judges_anew(court: Courtroom) -> None:
    forged = forge(firmware_log(), told_otherwise)
    court.log = forged
    assert (
        replay(parse_firmware_log(forged)).pcrs == replay(parse_firmware_log(firmware_log())).pcrs
    )
    court.judge(court.evidence())
    assert court.replays is not None
    assert len(court.replays) == 2


def test_a_forgotten_log_is_asked_for_again(court: Courtroom) -> None:
    assert court.replays is not None
    court.replays._kept.clear()
    with pytest.raises(MalformedInput) as caught:
        court.judge(court.evidence(digest_only=True))
    assert caught.value.code is Code.LOG_UNKNOWN


def test_steps_before_are_never_left_out(court: Courtroom) -> None:
    evidence = court.evidence(digest_only=True)
    court.accept(court.judge(evidence))
    assert_refused(court.judge(evidence), Code.NONCE_REUSED, step=3)
    court.enrolment = replace(court.enrolment, revoked=True)
    assert court.judge(court.evidence()).status is TrustTier.CONTRAINDICATED


def changed_value(court: Courtroom, pcr: int = 9) -> None:
    values = court.tpm.read_pcrs(court.policy.selections)[SHA256]
    court.tpm.load_pcrs({SHA256: {**values, pcr: b"\xee" * 32}})


def no_reference(court: Courtroom) -> None:
    court.reference = ReferenceLibrary()


@pytest.mark.parametrize("worse", [changed_value, no_reference])
def test_what_does_not_agree_is_not_kept(worse: Callable[[Courtroom], None]) -> None:
    court = Courtroom()
    court.replays = ReplayCache()
    worse(court)
    court.judge()
    assert kept(court) == 0


def agent_asked(policy: AppraisalPolicy) -> AppraisalPolicy:
    return replace(policy, agent=AgentRules(pcr=14))


def list_asked(policy: AppraisalPolicy) -> AppraisalPolicy:
    return replace(policy, runtime=RuntimeRules(pcr=14, policy="none"))


@pytest.mark.parametrize("more", [agent_asked, list_asked])
def test_policies_that_ask_for_growing_logs_are_never_judged_from_memory(
    court: Courtroom, more: Callable[[AppraisalPolicy], AppraisalPolicy]
) -> None:
    judgements = log_of(court).judgements
    [(key, judgement)] = judgements.items()
    court.policy = more(court.policy)
    judgements.clear()
    judgements[key._replace(policy=court.policy.stamp)] = judgement
    assert court.judge().status is TrustTier.CONTRAINDICATED
    assert kept(court) == 1


def test_faults_are_not_kept(court: Courtroom) -> None:
    log_of(court).judgements.clear()
    rules = tuple(replace(rule, match=Match.LOG) for rule in court.policy.rules)
    court.policy = replace(court.policy, rules=rules)
    changed_value(court, 4)
    assert_refused(court.judge(), Code.LOG_REPLAY_MISMATCH, step=4)
    assert kept(court) == 0


def test_no_more_than_a_few_judgements_are_kept_of_a_log(court: Courtroom) -> None:
    for _ in range(70):
        court.policy = replace(shipped_policy())
        court.judge()
        assert kept(court) <= 64


def test_equal_policies_and_libraries_are_told_apart() -> None:
    text = (
        'id = "a/1"\ndescription = "d"\n[quote]\nselection = "sha256:0"\n[[pcrs]]\nindices = [0]\n'
    )
    text += 'claim = "hardware"\nknown = 2\nunknown = 96\nmissing = -33\n'
    one, other = load_policy(text, "a"), load_policy(text, "a")
    assert one == other
    assert one.stamp != other.stamp
    assert ReferenceLibrary().stamp != ReferenceLibrary().stamp
