"""A device whose class wants its AI agent's AIBOM: judged as for an agent, and told as it was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from attestation.errors import AttestationError
from attestation.evidence import certify_qualifying_data, qualifying_data
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.evidence_codec import encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.verifier.attacks.agent_court import AgentCourt, policy
from verifier.issuance.enrol import (
    AcceptedEnrolment,
    EnrolmentTerms,
    enrolment_subject,
    judge_enrolment,
)
from verifier.issuance.enrolment_policy import DEFAULT_POLICY, ProofKind

PLAIN = frozenset({ProofKind.POP, ProofKind.RESIDENCY, ProofKind.EVIDENCE})
FILES = frozenset({ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT})


class DeviceCourt(AgentCourt):
    """A device that enrols with its agent's log, and a verifier that holds the AIBOM."""

    def __init__(self) -> None:
        super().__init__()
        self.install()
        self.presented = self.tpm.certificates[KeyRole.IDEVID]

    def request(self) -> EnrolmentRequest:
        tpm, nonce = self.tpm, self.nonce(enrolment_subject(self.presented))
        tpm.create_ldevid()
        values = tpm.read_pcrs(self.policy.selections)
        parts = encode_parts(values, self.log, False, {}, agent_log=self.agent_log)  # noqa: FBT003
        quote = tpm.quote(self.policy.selections, qualifying_data(nonce, parts.digests))
        above = self.maker.intermediates
        return EnrolmentRequest(
            idevid_chain=(self.presented, *above),
            iak_chain=(tpm.certificates[KeyRole.IAK], *above),
            idevid_public=tpm.public_area(KeyRole.IDEVID),
            iak_public=tpm.public_area(KeyRole.IAK),
            ldevid_public=tpm.public_area(KeyRole.LDEVID),
            idevid_certify=tpm.certify(KeyRole.IDEVID, certify_qualifying_data(nonce, "idevid")),
            ldevid_certify=tpm.certify(KeyRole.LDEVID, certify_qualifying_data(nonce, "ldevid")),
            csr=tpm.csr(KeyRole.LDEVID, "device", ()),
            evidence=encode_evidence(nonce, quote, parts),
        )

    def admit(self, proofs: Collection[ProofKind]) -> AcceptedEnrolment:
        bom = self.load()
        chosen = replace(
            DEFAULT_POLICY.devices[0], proofs=frozenset(proofs), accept=TrustTier.WARNING
        )
        return judge_enrolment(
            self.request(),
            presented=self.presented,
            challenge=self.authority,
            terms=EnrolmentTerms(
                anchors=self.anchors,
                reference=replace(self.reference, aiboms={bom.sha256: bom}),
                policy=self.policy,
                enrolment=replace(DEFAULT_POLICY, devices=(chosen,)),
            ),
            at=self.at,
        )


@pytest.fixture
def court() -> DeviceCourt:
    return DeviceCourt()


def test_device_with_its_endorsed_agent_shows_every_proof(court: DeviceCourt) -> None:
    found = court.admit(PLAIN | FILES)

    assert {"aibom", "provider-endorsement"} <= set(found.proofs)


def test_aibom_that_nobody_endorsed_is_refused_though_the_appraisal_lets_it_pass(
    court: DeviceCourt,
) -> None:
    court.policy, court.endorsement = policy("require_endorsement = false"), None

    with pytest.raises(AttestationError) as caught:
        court.admit(PLAIN | FILES)
    assert caught.value.code is Code.PROVIDER_ENDORSEMENT_MISSING

    assert "provider-endorsement" not in court.admit(PLAIN | {ProofKind.AIBOM}).proofs


def test_files_that_no_class_asked_for_are_no_proof_in_the_log(court: DeviceCourt) -> None:
    court.policy, court.endorsement = policy("require_endorsement = false"), None

    assert FILES.isdisjoint(court.admit(PLAIN).proofs)
