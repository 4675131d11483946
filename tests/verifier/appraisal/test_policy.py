"""What a PCR that is held against its log alone is said to agree with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, Claim, TrustTier
from tests.verifier.appraisal.courtroom import Courtroom, assert_refused, firmware_log
from tests.verifier.appraisal.test_runtime import Running
from tests.verifier.attacks.agent_court import AgentCourt
from tests.verifier.attacks.test_hidden_measurements import told_as_firmware
from verifier.appraisal.policy import load_policy

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
POLICY = """
id = "logs/1"
description = "nothing is known but logs"
[quote]
selection = "{selection}"
[[pcrs]]
indices = [{indices}]
claim = "hardware"
known = 2
unknown = 96
missing = 96
match = "log"
coverage = "{coverage}"
"""


def court(
    indices: str, *, coverage: str = "reported", banks: tuple[str, ...] = ("sha256",)
) -> Courtroom:
    made = Courtroom()
    selection = "+".join(f"{bank}:{indices}" for bank in banks)
    text = POLICY.format(selection=selection, indices=indices, coverage=coverage)
    made.policy = load_policy(text, "test")
    return made


def said(result: AttestationResult) -> dict[str, tuple[str, int]]:
    """Every finding that tells of agreement: its words, code and value."""
    agreed = ("log-matched", "pcr-untouched", "weak-bank")
    return {one.reason: (one.code, one.value) for one in result.findings if one.code in agreed}


def test_pcr_that_nothing_was_measured_into_is_called_that() -> None:
    """No log speaks of it, so none agrees; and what was never used proves nothing."""
    result = court("0,4,15").judge()

    assert said(result) == {
        "PCR 0, 4 (sha256): as the firmware log says": ("log-matched", 2),
        "PCR 15 (sha256): still at its start value: nothing was measured into it, which affirms "
        "nothing": ("pcr-untouched", 0),
    }
    assert result.status is TrustTier.AFFIRMING


@pytest.mark.parametrize("index", [15, 17, 23])
def test_untouched_pcrs_alone_affirm_nothing(index: int) -> None:
    """PCR 17 to 22 start at ones."""
    result = court(str(index)).judge()

    assert {code for code, _ in said(result).values()} == {"pcr-untouched"}
    assert Claim.HARDWARE not in result.vector.as_claims()


def test_untouched_pcr_of_a_weak_bank_is_untouched() -> None:
    made = court("4,15", banks=("sha256", "sha1"))
    made.tpm.load_pcrs(replay(parse_firmware_log(firmware_log()), [SHA1]).pcrs)

    result = made.judge()

    codes = {words: code for words, (code, _) in said(result).items()}
    (untouched,) = [words for words in codes if "15 (sha1)" in words]
    assert codes[untouched] == "pcr-untouched"
    assert "SHA-1" not in untouched
    assert [code for words, code in codes.items() if "4 (sha1)" in words] == ["weak-bank"]


def test_pcr_that_no_log_explains_agrees_with_none() -> None:
    made = court("0,15")
    made.tpm.extend(SHA256, 15, b"\x01" * 32)

    result = made.judge()

    assert list(said(result)) == ["PCR 0 (sha256): as the firmware log says"]
    (told,) = [one for one in result.findings if one.code == Code.PCR_NOT_COVERED]
    assert (told.pcr, told.value) == (15, 0)


def test_pcr_that_must_be_explained_and_is_untouched_is_contradicted() -> None:
    assert_refused(court("0,15", coverage="required").judge(), Code.PCR_NOT_COVERED, step=4)


def test_pcr_of_the_kernel_is_as_its_list_says() -> None:
    assert ("PCR 10 (sha256): as the IMA list says") in said(Running().look())


def test_pcr_of_the_kernel_without_its_list_agrees_with_nothing() -> None:
    """Also if a firmware log tells its entries."""
    made = Running(ima='list = "reported"')
    reported = tuple(
        replace(rule, coverage=made.policy.by_pcr[0].coverage) for rule in made.policy.rules
    )
    made.policy = replace(made.policy, rules=reported)
    told_as_firmware(made, 10)

    result = made.judge()

    assert not said(result), result.reasons
    assert Code.IMA_LIST_MISSING in {one.code for one in result.findings}


def test_pcr_of_the_agent_is_as_its_log_says() -> None:
    made = AgentCourt()
    made.install()

    words = said(made.verdict())

    assert words["PCR 13 (sha256): as the AI agent's log says"] == ("log-matched", 3)
    (weak,) = [one for one in words if "(sha1)" in one]
    assert weak.startswith("PCR 13 (sha1): as the AI agent's log says, but SHA-1 is weak")
