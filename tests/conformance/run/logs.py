"""Kind ``firmware-log``: the whole appraisal, on an honest quote of the given PCR values.

The quote that proves the values is made here: the case says that they are proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from attestation.algorithms import HashAlgorithm
from attestation.evidence import qualifying_data
from attestation.identity import Nonce
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.conformance.cases import octets
from tests.conformance.generate.device import FixedTpm
from tests.conformance.run.bench import NOW, banks, enrolment_of, policy_of, reference_of
from tests.conformance.run.outcome import Outcome, of_result
from verifier.appraisal.appraise import appraise
from verifier.appraisal.freshness import ExpectedNonce

_NONCE = Nonce(b"the nonce of this case, 32 bytes")


@cache
def device() -> FixedTpm:
    """The device that quotes."""
    tpm = FixedTpm()
    tpm._banks = tuple(HashAlgorithm)
    tpm._clear_pcrs()
    return tpm


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one log."""
    policy, values = policy_of(given["policy"]), banks(given["pcrs"])
    log = None if given["log"] is None else octets(given["log"])
    tpm = device()
    tpm.load_pcrs(values)
    parts = encode_parts(tpm.read_pcrs(policy.selections), log, False, {})  # noqa: FBT003
    quote = tpm.quote(policy.selections, qualifying_data(_NONCE, parts.digests))
    enrolment, anchors = enrolment_of(tpm.public_area(KeyRole.IAK))
    result = appraise(
        decode_evidence(encode_evidence(_NONCE, quote, parts)),
        challenge=ExpectedNonce(nonce=_NONCE),
        enrolment=enrolment,
        anchors=anchors,
        reference=reference_of(given["policy"]),
        policy=policy,
        at=NOW,
    )
    return of_result(result)
