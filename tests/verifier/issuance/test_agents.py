"""An AI agent's request as an honest device sends it; each test breaks one proof."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.capabilities import canonical
from attestation.errors import AttestationError, InputError
from attestation.evidence import certify_qualifying_data
from attestation.identity import agent_name
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from attestation.wire.agent_codec import AgentRequest
from attestation.wire.evidence_codec import decode_evidence
from device_agent.ports import KeyRole
from tests.simulators.soft_ai_agent import SoftAgentKey, SoftOwner
from tests.simulators.soft_device import Lies, SoftTpm, soft_key
from tests.verifier.appraisal.courtroom import Courtroom
from verifier.appraisal.freshness import NonceAuthority
from verifier.issuance.agent_state import StandingResult, StateTerms
from verifier.issuance.agents import (
    AcceptedAgent,
    AgentTerms,
    agent_subject,
    judge_agent,
    owner_subject,
)
from verifier.issuance.enrolment_policy import AgentClass, ProofKind
from verifier.issuance.owners import Owner

SCOPE = ("calendar.read", "mail.read", "mail.send")
ALL = frozenset({ProofKind.POP, ProofKind.RESIDENCY, ProofKind.RESULT, ProofKind.OWNER_BINDING})


class AgentCourt(Courtroom):
    """A courtroom whose device has attested well, and runs an agent with an owner."""

    def __init__(self) -> None:
        super().__init__()
        self.agent, self.owner = SoftAgentKey(), SoftOwner()
        self.owner_authority = NonceAuthority(keys=(b"k" * 32,), ttl=timedelta(days=7))
        self.agent_class = AgentClass(name="assistant", proofs=ALL, scope=SCOPE)
        self.owners = {
            self.owner.name: Owner(name=self.owner.name, key=self.owner.key.public_key())
        }
        self.newest: StandingResult | None = self.standing()
        self.accepted_binding = b""

    def standing(self, status: TrustTier = TrustTier.AFFIRMING) -> StandingResult:
        return StandingResult(status=status, expires_at=self.at + timedelta(minutes=5), ear="ear")

    def agent_nonce(self, name: str = "planner") -> bytes:
        return self.nonce(agent_subject(self.enrolment.device, agent_name(name)))

    def owner_nonce(self, name: str = "planner") -> bytes:
        return self.nonce(owner_subject(self.enrolment.device, agent_name(name)))

    def binding(self, **changes: object) -> str:
        until = self.at + timedelta(days=30)
        return self.owner.bind(
            self.agent,
            self.owner_nonce(),
            until=until,
            **changes,  # type: ignore[arg-type]
        )

    def request(self, **changes: object) -> AgentRequest:
        honest = self.agent.request(self.tpm, self.agent_nonce())
        defaults: dict[str, object] = {"capabilities": ("mail.send",)}
        if "owner_binding" not in changes:
            defaults["owner_binding"] = self.binding()
        return replace(honest, **(defaults | changes))  # type: ignore[arg-type]

    def admit(self, request: AgentRequest | None = None) -> AcceptedAgent:
        request = request or self.request()
        return judge_agent(
            request,
            decode_evidence(request.evidence) if request.evidence else None,
            challenge=self.authority,
            terms=AgentTerms(
                device=self.enrolment,
                chosen=self.agent_class,
                state=StateTerms(
                    anchors=self.anchors,
                    reference=self.reference,
                    policy=self.policy,
                    newest=self.newest,
                ),
                owners=self.owners,
                owner_challenge=self.owner_authority,
                accepted_binding=self.accepted_binding,
            ),
            at=self.at,
        )

    def wants(self, *proofs: ProofKind) -> None:
        self.agent_class = replace(self.agent_class, proofs=frozenset(proofs))


@pytest.fixture
def court() -> AgentCourt:
    return AgentCourt()


def refused(court: AgentCourt, request: AgentRequest | None = None) -> Code:
    with pytest.raises(AttestationError) as caught:
        court.admit(request)
    return caught.value.code


def test_honest_agent_is_accepted_with_what_it_asked_for(court: AgentCourt) -> None:
    found = court.admit(court.request(locator="https://a.example/p", validation_methods=("wpt",)))

    assert (found.device, found.agent) == ("box-0042", "planner")
    assert found.capabilities == ("mail.send",)
    assert (found.owner, found.locator) == (court.owner.name, "https://a.example/p")
    assert found.validation_methods == ("wpt",)
    assert found.public.key == court.agent.private.public_key()
    assert found.proofs == ("owner-binding", "pop", "residency", "result")
    assert found.result is None


def test_everything_that_is_missing_is_named_at_once(court: AgentCourt) -> None:
    court.newest = None
    request = court.request(csr=b"", certify=None, owner_binding="")

    with pytest.raises(AttestationError) as caught:
        court.admit(request)

    assert caught.value.code is Code.PROOFS_MISSING
    assert getattr(caught.value, "missing", ()) == ("pop", "residency", "result", "owner-binding")


def test_wrong_class_is_refused(court: AgentCourt) -> None:
    assert refused(court, court.request(agent_class="other")) is Code.ENROLMENT_CLASS_UNKNOWN
    court.admit(court.request(agent_class="assistant"))


def of_another_device(court: AgentCourt) -> bytes:
    return court.nonce("agent/box-0043/planner")


def of_another_agent(court: AgentCourt) -> bytes:
    return court.agent_nonce("other")


def of_the_device(court: AgentCourt) -> bytes:
    return court.nonce()


def for_the_owner(court: AgentCourt) -> bytes:
    return court.owner_nonce()


@pytest.mark.parametrize(
    "nonce", [of_another_device, of_another_agent, of_the_device, for_the_owner]
)
def test_only_a_challenge_for_this_agent_is_answered(
    court: AgentCourt, nonce: Callable[[AgentCourt], bytes]
) -> None:
    request = court.agent.request(
        court.tpm, nonce(court), owner_binding=court.binding(), capabilities=("mail.send",)
    )
    assert refused(court, request) is Code.NONCE_FORGED


def test_challenge_ends(court: AgentCourt) -> None:
    request = court.request()
    court.at += timedelta(minutes=3)
    court.newest = court.standing()
    assert refused(court, request) is Code.NONCE_EXPIRED


def test_csr_by_another_key_is_refused(court: AgentCourt) -> None:
    assert refused(court, court.request(csr=SoftAgentKey().csr())) is Code.CSR_KEY_MISMATCH


def test_csr_is_signed(court: AgentCourt) -> None:
    csr = court.agent.csr()
    broken = csr[:-1] + bytes([csr[-1] ^ 1])
    assert refused(court, court.request(csr=broken)) is Code.CSR_SIGNATURE_INVALID


def test_key_that_another_tpm_certified_is_refused(court: AgentCourt) -> None:
    nonce = court.agent_nonce()
    other = SoftTpm(court.maker, serial="BOX-0043")
    certify = other.certify_other(court.agent.key, certify_qualifying_data(nonce, "agent:planner"))
    request = replace(court.request(), nonce=nonce, certify=certify)
    assert refused(court, request) is Code.CERTIFY_SIGNATURE_INVALID


def test_certification_of_another_key_is_refused(court: AgentCourt) -> None:
    nonce = court.agent_nonce()
    certify = court.tpm.certify_other(
        SoftAgentKey().key, certify_qualifying_data(nonce, "agent:planner")
    )
    request = replace(court.request(), nonce=nonce, certify=certify)
    assert refused(court, request) is Code.CERTIFY_MISMATCH


@pytest.mark.parametrize("purpose", ["agent:other", "ldevid", "idevid", "agent:"])
def test_certification_for_another_purpose_is_refused(court: AgentCourt, purpose: str) -> None:
    nonce = court.agent_nonce()
    certify = court.tpm.certify_other(court.agent.key, certify_qualifying_data(nonce, purpose))
    request = replace(court.request(), nonce=nonce, certify=certify)
    assert refused(court, request) is Code.CERTIFY_MISMATCH


def test_certification_over_another_challenge_is_refused(court: AgentCourt) -> None:
    older, newer = court.request(), court.agent_nonce()
    assert refused(court, replace(older, nonce=newer)) is Code.CERTIFY_MISMATCH


def test_forged_certification_is_refused(court: AgentCourt) -> None:
    court.tpm.lies = Lies(sign_with=soft_key("p256", KeyRole.IAK))
    assert refused(court) is Code.CERTIFY_SIGNATURE_INVALID


def test_key_that_may_leave_its_tpm_is_refused(court: AgentCourt) -> None:
    court.agent.key = soft_key("p256", KeyRole.LDEVID, attributes=0x00040060)
    assert refused(court) is Code.KEY_ATTRIBUTES_WRONG


def test_attestation_key_is_no_agents_key(court: AgentCourt) -> None:
    court.agent.key = court.tpm.keys[KeyRole.IAK]
    assert refused(court) is Code.KEY_ATTRIBUTES_WRONG
    court.wants(ProofKind.POP, ProofKind.OWNER_BINDING)
    assert refused(court, court.request(certify=None)) is Code.KEY_ATTRIBUTES_WRONG


def test_key_with_an_idevids_policy_is_no_agents_key(court: AgentCourt) -> None:
    court.agent.key = soft_key("p256", KeyRole.IDEVID)
    assert refused(court) is Code.KEY_ATTRIBUTES_WRONG
    court.wants(ProofKind.POP, ProofKind.OWNER_BINDING)
    assert refused(court, court.request(certify=None)) is Code.KEY_ATTRIBUTES_WRONG


def test_key_that_no_token_can_name_is_refused(court: AgentCourt) -> None:
    court.wants(ProofKind.POP)
    court.agent.key = soft_key("p521", KeyRole.LDEVID)
    request = court.request(certify=None, owner_binding="x", csr=b"x")
    assert refused(court, request) is Code.UNSUPPORTED_ALGORITHM


@pytest.mark.parametrize("status", [TrustTier.WARNING, TrustTier.CONTRAINDICATED, TrustTier.NONE])
def test_device_that_is_not_affirming_gets_nothing(court: AgentCourt, status: TrustTier) -> None:
    court.newest = court.standing(status)
    assert refused(court) is Code.RESULT_NOT_ACCEPTABLE


def test_contraindicated_device_gets_nothing_though_no_state_is_wanted(court: AgentCourt) -> None:
    court.wants(ProofKind.POP)
    for standing in (court.standing(TrustTier.CONTRAINDICATED), None):
        court.newest = standing
        assert refused(court) is Code.RESULT_NOT_ACCEPTABLE


def test_result_that_has_ended_is_none(court: AgentCourt) -> None:
    request = court.request()
    court.newest = replace(court.standing(), expires_at=court.at)
    assert refused(court, request) is Code.PROOFS_MISSING
    court.wants(ProofKind.POP)
    assert refused(court, request) is Code.RESULT_NOT_ACCEPTABLE


def with_evidence(court: AgentCourt, **changes: object) -> AgentRequest:
    nonce = court.agent_nonce()
    request = court.agent.request(court.tpm, nonce, owner_binding=court.binding())
    return replace(request, evidence=court.message(nonce), **changes)  # type: ignore[arg-type]


def test_fresh_evidence_stands_for_an_older_result(court: AgentCourt) -> None:
    court.wants(ProofKind.POP, ProofKind.EVIDENCE)
    court.newest = court.standing(TrustTier.CONTRAINDICATED)

    found = court.admit(with_evidence(court))

    assert found.result is not None
    assert found.result.status is TrustTier.AFFIRMING
    assert "evidence" in found.proofs


def test_evidence_is_wanted_where_the_class_says_so(court: AgentCourt) -> None:
    court.wants(ProofKind.POP, ProofKind.EVIDENCE)
    assert refused(court) is Code.PROOFS_MISSING


def test_contraindicated_evidence_is_refused(court: AgentCourt) -> None:
    court.wants(ProofKind.POP, ProofKind.EVIDENCE)
    bank = court.policy.selections[0].bank
    court.tpm.extend(bank, 4, bytes(bank.size))
    assert refused(court, with_evidence(court)) is Code.EVIDENCE_NOT_ACCEPTABLE


def test_evidence_over_another_challenge_is_refused(court: AgentCourt) -> None:
    request = with_evidence(court)
    other = replace(request, evidence=court.message(court.agent_nonce()))
    assert refused(court, other) is Code.NONCE_FORGED


def test_evidence_of_a_forged_quote_is_refused(court: AgentCourt) -> None:
    nonce = court.agent_nonce()
    honest = court.agent.request(court.tpm, nonce, owner_binding=court.binding())
    court.tpm.lies = Lies(flip_signature=True)
    request = replace(honest, evidence=court.message(nonce))
    assert refused(court, request) is Code.EVIDENCE_NOT_ACCEPTABLE


def test_named_aibom_must_be_in_force(court: AgentCourt) -> None:
    assert refused(court, court.request(aibom=bytes(32))) is Code.EVIDENCE_NOT_ACCEPTABLE
    assert refused(court, with_evidence(court, aibom=bytes(32))) is Code.EVIDENCE_NOT_ACCEPTABLE
    court.wants(ProofKind.POP, ProofKind.AIBOM)
    assert refused(court) is Code.PROOFS_MISSING


def test_aibom_brought_along_must_be_the_one_named_and_endorsed(court: AgentCourt) -> None:
    from tests.simulators.soft_agent import aibom, text  # noqa: PLC0415 - another kind of agent

    document = text(aibom())
    digest = hashlib.sha256(document).digest()
    for named, code in (
        (bytes(32), Code.AIBOM_MALFORMED),
        (digest, Code.PROVIDER_ENDORSEMENT_MISSING),
    ):
        request = with_evidence(court, aibom=named, aibom_document=document)
        assert refused(court, request) is code


# --- the owner ---------------------------------------------------------------------------------


def test_unknown_owner_is_refused(court: AgentCourt) -> None:
    court.owners = {}
    assert refused(court) is Code.OWNER_UNKNOWN


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cnf": {"jkt": "A" * 43}}, Code.OWNER_BINDING_MISMATCH),
        ({"owner": "mailto:other@fleet.example"}, Code.OWNER_UNKNOWN),
        ({"nonce": "bm9uY2U"}, Code.OWNER_BINDING_MISMATCH),
        ({"exp": 1}, Code.OWNER_BINDING_EXPIRED),
        ({"extra": 1}, Code.OWNER_BINDING_MALFORMED),
    ],
)
def test_binding_that_says_something_else_is_refused(
    court: AgentCourt, changes: dict[str, object], code: Code
) -> None:
    assert refused(court, court.request(owner_binding=court.binding(**changes))) is code


def test_another_owners_signature_is_refused(court: AgentCourt) -> None:
    request = court.request()
    court.owners[court.owner.name] = Owner(
        name=court.owner.name, key=ec.generate_private_key(ec.SECP256R1()).public_key()
    )
    assert refused(court, request) is Code.OWNER_SIGNATURE_INVALID


def test_owner_signs_a_challenge_for_this_agent_of_this_device(court: AgentCourt) -> None:
    for nonce in (
        court.owner_nonce("other"),
        court.nonce("owner-binding/box-0043/planner"),
        court.agent_nonce(),
    ):
        binding = court.owner.bind(court.agent, nonce, until=court.at + timedelta(days=1))
        request = court.request(owner_binding=binding)
        assert refused(court, request) is Code.OWNER_BINDING_MISMATCH


def test_owner_has_days_to_sign_and_not_for_ever(court: AgentCourt) -> None:
    binding = court.binding()
    court.at += timedelta(days=6)
    court.newest = court.standing()
    court.admit(court.request(owner_binding=binding))

    court.at += timedelta(days=2)
    court.newest = court.standing()
    assert refused(court, court.request(owner_binding=binding)) is Code.OWNER_BINDING_EXPIRED


def test_accepted_binding_may_be_shown_again_until_it_ends(court: AgentCourt) -> None:
    binding = court.binding()
    court.accepted_binding = hashlib.sha256(binding.encode()).digest()
    court.at += timedelta(days=29)
    court.newest = court.standing()
    court.admit(court.request(owner_binding=binding))

    court.at += timedelta(days=1)
    court.newest = court.standing()
    assert refused(court, court.request(owner_binding=binding)) is Code.OWNER_BINDING_EXPIRED


def test_accepted_binding_is_for_its_key_only(court: AgentCourt) -> None:
    binding = court.binding()
    court.accepted_binding = hashlib.sha256(binding.encode()).digest()
    court.agent = SoftAgentKey()
    assert refused(court, court.request(owner_binding=binding)) is Code.OWNER_BINDING_MISMATCH


# --- scope -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "by_class", "by_owner", "named"),
    [
        (("mail.read",), SCOPE, ("mail.send",), "the owner's binding"),
        (("mail.send",), ("mail.read",), ("mail.send",), "class assistant"),
        (("mail.send",), (), ("mail.send",), "class assistant"),
        (("admin", "mail.send"), SCOPE, ("admin", "mail.send"), "admin not in class"),
        (("*",), SCOPE, SCOPE, "class assistant"),
        (("mail",), SCOPE, SCOPE, "class assistant"),
    ],
)
def test_asking_for_more_is_refused_and_not_trimmed(
    court: AgentCourt,
    asked: tuple[str, ...],
    by_class: tuple[str, ...],
    by_owner: tuple[str, ...],
    named: str,
) -> None:
    court.agent_class = replace(court.agent_class, scope=by_class)
    request = court.request(
        capabilities=canonical(asked), owner_binding=court.binding(scope=by_owner)
    )
    with pytest.raises(AttestationError, match=named) as caught:
        court.admit(request)
    assert caught.value.code is Code.SCOPE_EXCEEDED


def test_owner_gives_no_more_than_he_may(court: AgentCourt) -> None:
    court.owners[court.owner.name] = replace(
        court.owners[court.owner.name], scope=("calendar.read",)
    )
    with pytest.raises(AttestationError, match="may give") as caught:
        court.admit()
    assert caught.value.code is Code.SCOPE_EXCEEDED
    court.admit(court.request(capabilities=("calendar.read",)))


def test_asking_for_less_or_nothing_is_fine(court: AgentCourt) -> None:
    assert court.admit(court.request(capabilities=())).capabilities == ()


def test_without_a_wanted_binding_the_class_alone_bounds(court: AgentCourt) -> None:
    court.wants(ProofKind.POP)
    found = court.admit(court.request(owner_binding="", capabilities=("mail.read",)))
    assert (found.owner, found.owner_until) == ("", None)
    request = court.request(owner_binding="", capabilities=("admin",))
    assert refused(court, request) is Code.SCOPE_EXCEEDED


def test_certificate_ends_with_the_binding_and_with_the_agent(court: AgentCourt) -> None:
    found, month = court.admit(), timedelta(days=30)
    assert found.lifetime(timedelta(days=90), court.at, None) == month
    assert found.lifetime(timedelta(days=5), court.at, None) == timedelta(days=5)
    ends = court.at + timedelta(hours=3)
    assert found.lifetime(timedelta(days=90), court.at, ends) == timedelta(hours=3)


def test_malformed_structures_are_refused(court: AgentCourt) -> None:
    for changes in ({"agent_public": b"x"}, {"csr": b"x"}, {"owner_binding": "x"}):
        with pytest.raises(InputError):
            court.admit(court.request(**changes))
