"""Several banks in one quote: N21 (a bank left open), SHA-1 beside a stronger bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.logs.replay import replay
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from tests.verifier.appraisal.courtroom import NOW, SHA256, Courtroom, assert_refused
from tests.verifier.attacks.log_forge import forge
from verifier.appraisal.policy import AppraisalPolicy, load_policy
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary

SHA1 = HashAlgorithm.SHA1
PCRS = "0,1,2,3,4,5,6,7,8,9,14"


def policy(selection: str) -> AppraisalPolicy:
    text = (resources.files("verifier.policies") / "linux-server.toml").read_text()
    return load_policy(text.replace(f"sha256:{PCRS}", selection), "two-banks")


def court_of(selection: str) -> Courtroom:
    court = Courtroom()
    court.policy = policy(selection)
    assert court.log is not None
    replayed = replay(parse_firmware_log(court.log), (SHA1, SHA256))
    court.tpm.load_pcrs(replayed.pcrs)
    golden = learn(
        "box", replayed, court.tpm.read_pcrs(court.policy.selections), court.policy.selections, NOW
    )
    court.reference = ReferenceLibrary(sets=(replace(golden, to_review=frozenset()),))
    return court


@pytest.mark.parametrize("selection", [f"sha256:{PCRS}+sha1:{PCRS}", f"sha1:{PCRS}+sha256:{PCRS}"])
def test_sha1_beside_sha256_is_a_stated_weakness(selection: str) -> None:
    result = court_of(selection).judge()

    weak = [one for one in result.findings if one.code == "weak-bank"]
    assert {(one.bank, one.value) for one in weak} == {("sha1", 0)}
    assert all("this bank can accuse and cannot affirm" in one.reason for one in weak)
    assert {one.bank for one in result.findings if one.value in {2, 3} and one.step > 3} == {
        "sha256"
    }
    assert {fact.bank for fact in result.findings if fact.code == "reference-matched"} == {"sha256"}


def test_what_sha1_says_still_accuses() -> None:
    court = court_of(f"sha256:{PCRS}+sha1:{PCRS}")
    court.tpm.extend(SHA1, 4, b"\x66" * 20)

    assert_refused(court.judge(), Code.LOG_REPLAY_MISMATCH, step=4)


@pytest.mark.parametrize("selection", ["sha1:0,4", f"sha256:0+sha1:{PCRS}"])
def test_pcr_in_sha1_alone_is_no_policy(selection: str) -> None:
    with pytest.raises(InputError, match=r"quote.selection: PCR .* SHA-1 alone"):
        policy(selection)


def test_boot_facts_are_never_told_from_sha1_digests() -> None:
    assert policy(f"sha1:{PCRS}+sha256:{PCRS}").facts_from.bank is SHA256


def test_bank_that_the_firmware_left_open_disagrees() -> None:
    court = court_of(f"sha256:{PCRS}+sha1:{PCRS}")
    held = court.tpm.read_pcrs(court.policy.selections)
    court.tpm.load_pcrs({SHA256: {**held[SHA256], 4: bytes(32)}, SHA1: held[SHA1]})

    result = court.judge()

    assert_refused(result, Code.PCR_BANKS_DISAGREE, step=4)
    (finding,) = [one for one in result.findings if one.code == Code.PCR_BANKS_DISAGREE]
    assert (finding.pcr, finding.bank) == (4, "sha256")
    assert "start value, but something was measured into sha1" in finding.reason


def test_log_whose_events_carry_one_bank_only_disagrees() -> None:
    court = court_of(f"sha256:{PCRS}+sha1:{PCRS}")
    assert court.log is not None

    def edit(events: list[UnverifiedEvent]) -> Sequence[UnverifiedEvent]:
        return [
            event._replace(digests=tuple(pair for pair in event.digests if pair[0] == SHA256))
            if event.pcr == 4
            else event
            for event in events
        ]

    court.log = forge(court.log, edit)

    found = [one for one in court.judge().findings if one.code == Code.PCR_BANKS_DISAGREE]
    assert [(one.pcr, one.bank) for one in found] == [(4, "sha1")]


def test_one_bank_alone_agrees_with_itself() -> None:
    assert court_of(f"sha256:{PCRS}").judge().status is TrustTier.AFFIRMING
