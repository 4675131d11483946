"""Kind ``evidence-sequence``: messages in order; what was accepted is remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attestation.identity import DeviceId
from attestation.wire.evidence_codec import decode_evidence
from tests.conformance.cases import octets
from tests.conformance.generate.device import FixedMaker
from tests.conformance.generate.freshness import authority
from tests.conformance.run.bench import anchors_of, enrolment_of, moment, policy_of, reference_of
from tests.conformance.run.outcome import Outcome, attempt, of_result
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import NonceAuthority, mark_seen


class WrongStep(AssertionError):
    """A step before the last was not judged as expected."""


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge a sequence; the last step is the answer."""
    enrolment, anchors = enrolment_of(octets(given["ak"]["tpmt_public"]))
    enrolment = replace(enrolment, device=DeviceId(given["device"]))
    endorsement = given.get("endorsement", {})
    for name in ("endorsed_from", "endorsed_until"):
        if name in endorsement:
            changed: dict[str, Any] = {name: moment(endorsement[name])}
            enrolment = replace(enrolment, **changed)
    enrolment = replace(enrolment, revoked=endorsement.get("revoked", False))
    if not endorsement.get("anchor_trusted", True):
        other = FixedMaker("Somebody Else")
        assert hashlib.sha256(other.root_der).digest() != enrolment.anchor_sha256
        anchors = anchors_of([other.root_der])
    judge = _Judge(given, enrolment, anchors)
    for number, step in enumerate(given["steps"], start=1):
        said = attempt(lambda step=step: judge.step(step))  # type: ignore[misc]
        wanted = step["expected"]
        good = said.verdict == wanted["verdict"] and (
            wanted["code"] is None or wanted["code"] in said.codes
        )
        if number == len(given["steps"]):
            return said
        if not good:
            raise WrongStep(f"step {number} is {said.verdict}: {said.detail}")
    raise WrongStep("no step")


class _Judge:
    """A verifier that remembers one device."""

    def __init__(self, given: Mapping[str, Any], enrolment: Enrolment, anchors: Any) -> None:
        self._policy = policy_of(given["policy"])
        self._reference = reference_of(given["policy"])
        self._challenge = NonceAuthority(keys=authority().keys, ttl=self._policy.nonce_ttl)
        self._enrolment, self._anchors = enrolment, anchors

    def step(self, step: Mapping[str, Any]) -> Outcome:
        """Judge one message and remember where the device stands."""
        result = appraise(
            decode_evidence(octets(step["evidence"])),
            challenge=self._challenge,
            enrolment=self._enrolment,
            anchors=self._anchors,
            reference=self._reference,
            policy=self._policy,
            at=moment(step["at"]),
        )
        if result.clock is not None:
            self._enrolment = self._enrolment.seen(mark_seen(result.clock, result.nonce))
        return of_result(result)
