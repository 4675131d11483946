"""An AI agent's request whose class wants its AIBOM: the one named is in force, and endorsed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from attestation.errors import AttestationError
from attestation.evidence import qualifying_data
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from attestation.wire.agent_codec import AgentRequest
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from tests.simulators import soft_agent
from tests.simulators.soft_ai_agent import SoftAgentKey
from tests.simulators.soft_provider import SoftProvider
from tests.verifier.attacks.agent_court import AgentCourt
from verifier.issuance.agent_state import StateTerms
from verifier.issuance.agents import AcceptedAgent, AgentTerms, agent_subject, judge_agent
from verifier.issuance.enrolment_policy import AgentClass, ProofKind

WANTED = frozenset(
    {ProofKind.POP, ProofKind.EVIDENCE, ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT}
)


class FilesCourt(AgentCourt):
    """A device whose agent is as its AIBOM lists it, and a verifier that holds that AIBOM."""

    def __init__(self) -> None:
        super().__init__()
        self.agent, self.accept = SoftAgentKey(), TrustTier.AFFIRMING
        self.wanted = WANTED
        self.install()
        self.hold()

    def hold(self) -> None:
        bom = self.load()
        self.reference = replace(self.reference, aiboms={bom.sha256: bom})

    def hold_none(self) -> None:
        self.reference = replace(self.reference, aiboms={})

    def request(self, **changes: object) -> AgentRequest:
        nonce = self.nonce(agent_subject(self.enrolment.device, self.agent.name))
        values = self.tpm.read_pcrs(self.policy.selections)
        parts = encode_parts(values, self.log, False, {}, agent_log=self.agent_log)  # noqa: FBT003
        quote = self.tpm.quote(self.policy.selections, qualifying_data(nonce, parts.digests))
        named = {"evidence": encode_evidence(nonce, quote, parts), "aibom": self.aibom.digest}
        return self.agent.request(self.tpm, nonce, **(named | changes))

    def admit(self, request: AgentRequest) -> AcceptedAgent:
        return judge_agent(
            request,
            decode_evidence(request.evidence),
            challenge=self.authority,
            terms=AgentTerms(
                device=self.enrolment,
                chosen=AgentClass(name="assistant", proofs=self.wanted),
                state=StateTerms(
                    anchors=self.anchors,
                    reference=self.reference,
                    policy=self.policy,
                    accept=self.accept,
                    providers=self.trusted,
                ),
                owners={},
                owner_challenge=self.authority,
            ),
            at=self.at,
        )

    def brought(self, provider: SoftProvider | None) -> dict[str, object]:
        """The AIBOM in the request itself, with what its provider says of it."""
        said = json.dumps(provider.endorse(self.document)).encode() if provider else b""
        return {"aibom_document": self.document, "provider_endorsement": said}


@pytest.fixture
def court() -> FilesCourt:
    return FilesCourt()


def refused(court: FilesCourt, request: AgentRequest) -> Code:
    with pytest.raises(AttestationError) as caught:
        court.admit(request)
    return caught.value.code


def test_agent_as_its_endorsed_aibom_lists_it_is_accepted(court: FilesCourt) -> None:
    found = court.admit(court.request())

    assert {"aibom", "provider-endorsement"} <= set(found.proofs)


def test_another_aibom_than_the_one_in_force_is_refused(court: FilesCourt) -> None:
    """Both are held and endorsed: being known is not being what runs."""
    other = soft_agent.text(soft_agent.aibom(version=2))
    measured, court.document = court.document, other
    court.endorsement = court.provider.endorse(other)
    known = {**court.reference.aiboms, (bom := court.load()).sha256: bom}
    court.reference = replace(court.reference, aiboms=known)
    named = court.aibom.digest
    court.document = measured

    assert refused(court, court.request(aibom=named)) is Code.EVIDENCE_NOT_ACCEPTABLE
    court.admit(court.request())


def test_changed_file_is_refused(court: FilesCourt) -> None:
    court.install(agent__py=b"print('I do as I like')")
    assert refused(court, court.request()) is Code.EVIDENCE_NOT_ACCEPTABLE


def test_unlisted_file_is_refused_though_such_devices_are_let_in(court: FilesCourt) -> None:
    """It is a warning only, and the class lets warnings in: still the files are not as listed."""
    court.accept = TrustTier.WARNING
    court.install(more__py=b"print('me too')")
    request = court.request()
    with pytest.raises(AttestationError, match="as its AIBOM lists them") as caught:
        court.admit(request)
    assert caught.value.code is Code.EVIDENCE_NOT_ACCEPTABLE


def test_aibom_that_nobody_endorsed_is_refused(court: FilesCourt) -> None:
    """Also where the appraisal policy lets it pass."""
    from tests.verifier.attacks.agent_court import policy  # noqa: PLC0415 - one use

    court.policy = policy("require_endorsement = false")
    court.endorsement = None
    court.hold()
    assert refused(court, court.request()) is Code.PROVIDER_ENDORSEMENT_MISSING


def test_providers_word_that_no_class_asked_for_is_no_proof_in_the_log(court: FilesCourt) -> None:
    from tests.verifier.attacks.agent_court import policy  # noqa: PLC0415 - as above

    court.policy = policy("require_endorsement = false")
    court.endorsement = None
    court.wanted = WANTED - {ProofKind.PROVIDER_ENDORSEMENT}
    court.hold()

    found = court.admit(court.request())

    assert "aibom" in found.proofs
    assert "provider-endorsement" not in found.proofs


def test_aibom_brought_along_counts_with_its_providers_word(court: FilesCourt) -> None:
    court.hold_none()
    assert refused(court, court.request()) is Code.EVIDENCE_NOT_ACCEPTABLE

    court.admit(court.request(**court.brought(court.provider)))


def test_own_word_for_an_aibom_is_no_providers(court: FilesCourt) -> None:
    court.hold_none()
    for provider, code in (
        (SoftProvider(), Code.PROVIDER_UNKNOWN),
        (None, Code.PROVIDER_ENDORSEMENT_MISSING),
    ):
        assert refused(court, court.request(**court.brought(provider))) in (
            code,
            Code.PROVIDER_SIGNATURE_INVALID,
        )


def test_endorsement_of_another_aibom_is_refused(court: FilesCourt) -> None:
    court.hold_none()
    other = court.provider.endorse(soft_agent.text(soft_agent.aibom(version=2)))
    request = court.request(
        aibom_document=court.document, provider_endorsement=json.dumps(other).encode()
    )
    assert refused(court, request) is Code.PROVIDER_SUBJECT_MISMATCH


def test_what_is_no_text_is_no_aibom(court: FilesCourt) -> None:
    import hashlib  # noqa: PLC0415 - one use

    raw = b"\xff"
    request = court.request(aibom=hashlib.sha256(raw).digest(), aibom_document=raw)
    assert refused(court, request) is Code.AIBOM_MALFORMED
