"""Favourable PCRs: N6, N7 (other selection or bank than asked), N20 (pcrDigest's hash)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.pcr import PcrSelection, parse_selection
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, Claim
from attestation.wire.evidence_codec import decode_evidence
from tests.simulators.soft_device import Lies
from tests.verifier.appraisal.courtroom import SHA256, Courtroom, assert_refused

ASKED = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)


@pytest.fixture
def court() -> Courtroom:
    return Courtroom()


def refused_state(result: AttestationResult, code: Code) -> None:
    """Whose quote it is was proven; what the machine runs was not."""
    assert_refused(result, code, step=4)
    assert result.vector.as_claims() == {
        Claim.INSTANCE_IDENTITY: 2,
        Claim.HARDWARE: 99,
        Claim.EXECUTABLES: 99,
    }
    assert result.clock is not None


@pytest.mark.parametrize(
    "quoted",
    [
        "sha256:0,1,2,3,4,5,6,7,8,9",
        "sha256:0,1,2,3,4,5,6,7,8,9,14,15",
        "sha256:16,17,18",
        "sha1:0,1,2,3,4,5,6,7,8,9,14",
        "sha256:0,1,2,3,4,5,6,7,8,9,14+sha1:0",
        "sha1:0+sha256:0,1,2,3,4,5,6,7,8,9,14",
    ],
)
def test_quote_over_other_pcrs_is_refused(court: Courtroom, quoted: str) -> None:
    """N6, N7: the selection must be the policy's, PCR for PCR and bank for bank."""
    court.tpm.lies = Lies(selections=parse_selection(quoted))

    result = court.judge()

    refused_state(result, Code.PCR_SELECTION_WRONG)
    assert quoted in "".join(result.reasons)


def test_quote_over_no_pcr_is_refused(court: Courtroom) -> None:
    """N6, N7: CVE-2022-0317; an empty selection has a constant digest."""
    court.tpm.lies = Lies(selections=(PcrSelection(bank=SHA256, indices=()),))

    refused_state(court.judge(), Code.PCR_SELECTION_WRONG)


def test_good_values_beside_a_quote_of_bad_ones_are_refused(court: Courtroom) -> None:
    """N6: the values sent are proven by the digest, or not used."""
    good = court.tpm.read_pcrs(court.policy.selections)
    court.tpm.extend(SHA256, 4, b"\x01" * 32)

    result = court.judge(decode_evidence(court.message(values=good)))

    refused_state(result, Code.PCR_DIGEST_MISMATCH)


def test_two_pcr_values_exchanged_are_refused(court: Courtroom) -> None:
    evidence = court.evidence()
    values = dict(evidence.pcr_values[SHA256])
    values[4], values[5] = values[5], values[4]

    result = court.judge(replace(evidence, pcr_values={SHA256: values}))

    refused_state(result, Code.PCR_DIGEST_MISMATCH)


def test_pcr_values_cut_at_another_place_are_refused(court: Courtroom) -> None:
    """The digest covers a concatenation: 31 + 33 bytes hash like 32 + 32."""
    evidence = court.evidence()
    values = dict(evidence.pcr_values[SHA256])
    joined = values[4] + values[5]
    values[4], values[5] = joined[:31], joined[31:]

    with pytest.raises(MalformedInput) as caught:
        court.judge(replace(evidence, pcr_values={SHA256: values}))

    assert caught.value.code is Code.EVIDENCE_MALFORMED


def test_pcr_digest_with_another_hash_than_the_scheme_is_refused() -> None:
    """N20: a P-384 key signs with SHA-384; a SHA-256 digest of the same values does not fit."""
    court = Courtroom("p384")
    values = court.tpm.read_pcrs(court.policy.selections)[SHA256]
    joined = b"".join(values[index] for index in ASKED)
    court.tpm.lies = Lies(pcr_digest=hashlib.sha256(joined).digest())

    refused_state(court.judge(), Code.PCR_DIGEST_MISMATCH)


def test_log_cannot_stand_in_for_values_that_were_not_quoted(court: Courtroom) -> None:
    """N6: without values the replayed ones are tried, and proven by the digest all the same."""
    evidence = court.evidence()
    assert court.judge(replace(evidence, pcr_values={})).vector.hardware == 2

    court.tpm.extend(SHA256, 0, b"\x01" * 32)
    result = court.judge(replace(court.evidence(), pcr_values={}))

    refused_state(result, Code.PCR_DIGEST_MISMATCH)


def test_values_of_pcrs_that_were_not_asked_change_nothing(court: Courtroom) -> None:
    evidence = court.evidence()
    more = {
        SHA256: {**evidence.pcr_values[SHA256], 23: b"\x07" * 32},
        HashAlgorithm.SHA1: {0: b"\x07" * 20},
    }

    assert court.judge(replace(evidence, pcr_values=more)).vector == court.judge(evidence).vector
