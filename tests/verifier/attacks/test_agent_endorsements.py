"""What an attacker does to the AI agent's AIBOM and to its provider's endorsement."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.result import TrustTier
from tests.simulators import soft_agent
from tests.simulators.soft_provider import SoftProvider, moment
from tests.verifier.appraisal.courtroom import NOW, assert_refused
from tests.verifier.attacks.agent_court import AgentCourt, policy, reasons


@pytest.fixture
def court() -> AgentCourt:
    return AgentCourt()


def test_aibom_that_the_attacker_wrote_is_unknown(court: AgentCourt) -> None:
    court.install()
    court.document = soft_agent.text(soft_agent.aibom(version=2))

    result = court.verdict()

    assert_refused(result, "aibom-unknown", step=5)


def test_aibom_that_the_policy_does_not_admit_is_unknown_to_it(court: AgentCourt) -> None:
    court.install()
    court.policy = policy('aiboms = ["field-assistant 3.0"]')
    refused = court.verdict()
    court.policy = policy('aiboms = ["field-assistant 2.1"]')

    assert_refused(refused, "aibom-unknown", step=5)
    assert court.verdict().vector.executables == 3


def test_aibom_without_datasets_is_a_warning_or_what_the_policy_says(court: AgentCourt) -> None:
    bom = soft_agent.aibom()
    for one in bom["components"]:
        one.pop("data", None)
    court.document = soft_agent.text(bom)
    court.endorsement = court.provider.endorse(court.document)
    court.install()

    warned = court.verdict()
    court.policy = policy("incomplete = 96")
    denied = court.verdict()

    assert warned.vector.configuration == 36
    assert "says nothing of datasets" in reasons(warned, "aibom-incomplete")
    assert denied.status is TrustTier.CONTRAINDICATED


@pytest.mark.parametrize(
    "entry",
    ["pkg:pypi/numpy", "pkg:pypi/numpy@2.1.0", "ref-models/tiny.onnx", "digest"],
)
def test_denied_component_is_refused_by_its_reference(court: AgentCourt, entry: str) -> None:
    if entry == "digest":
        entry = "sha256:" + soft_agent.sha256(soft_agent.FILES["models/tiny.onnx"][1])
    court.install()
    court.policy = policy(f'deny = ["{entry}"]')

    result = court.verdict()

    assert_refused(result, "agent-component-denied", step=5)
    told = reasons(result, "agent-component-denied")
    assert "pkg:pypi/numpy@2.1.0" in told or "ref-models/tiny.onnx" in told


def test_subpath_of_a_denied_package_does_not_hide_it(court: AgentCourt) -> None:
    document = soft_agent.aibom()
    listed = next(
        one for one in document["components"] if one.get("purl") == "pkg:pypi/numpy@2.1.0"
    )
    listed["purl"] += "#numpy/core"
    listed["bom-ref"] = "numpy"
    court.document = soft_agent.text(document)
    court.endorsement = court.provider.endorse(court.document)
    court.install()
    court.policy = policy('deny = ["pkg:pypi/numpy@2.1.0"]')

    assert_refused(court.verdict(), "agent-component-denied", step=5)


def test_deny_entry_for_another_package_denies_nothing(court: AgentCourt) -> None:
    court.install()
    court.policy = policy('deny = ["pkg:pypi/nump", "pkg:pypi/numpy@2.1.1"]')

    assert court.verdict().vector.executables == 3


def test_component_that_the_aibom_itself_calls_exploitable_is_refused(court: AgentCourt) -> None:
    weakness = {
        "id": "CVE-2026-0001",
        "analysis": {"state": "exploitable"},
        "affects": [{"ref": "pkg:pypi/numpy@2.1.0"}],
    }
    court.document = soft_agent.text(soft_agent.aibom(vulnerabilities=[weakness]))
    court.endorsement = court.provider.endorse(court.document)
    court.install()

    assert "CVE-2026-0001" in reasons(court.verdict(), "agent-component-denied")


def refused_for(court: AgentCourt, code: str) -> str:
    result = court.verdict()
    assert_refused(result, code, step=5)
    return reasons(result, code)


def test_missing_endorsement_is_refused_where_the_policy_asks(court: AgentCourt) -> None:
    court.install()
    court.endorsement = None

    refused_for(court, "provider-endorsement-missing")
    court.policy = policy("require_endorsement = false")
    assert court.verdict().vector.executables == 3


def test_endorsement_of_another_aibom_is_refused(court: AgentCourt) -> None:
    court.install()
    court.endorsement = court.provider.endorse(b"another AIBOM")

    refused_for(court, "provider-subject-mismatch")


def test_endorsement_by_a_stranger_is_refused(court: AgentCourt) -> None:
    court.install()
    court.endorsement = SoftProvider().endorse(court.document)

    refused_for(court, "provider-unknown")


def test_stranger_who_names_the_trusted_key_is_refused(court: AgentCourt) -> None:
    court.install()
    court.endorsement = SoftProvider().endorse(court.document, keyid=court.provider.keyid)

    refused_for(court, "provider-signature-invalid")


def test_trusted_provider_that_the_policy_does_not_list_is_refused(court: AgentCourt) -> None:
    court.install()
    court.policy = policy('providers = ["other"]')

    refused_for(court, "provider-unknown")


def test_edited_statement_is_refused(court: AgentCourt) -> None:
    court.install()
    endorsed = court.provider.endorse(b"another AIBOM")
    meant = court.provider.endorse(court.document)
    court.endorsement = endorsed | {"payload": meant["payload"]}

    refused_for(court, "provider-signature-invalid")


def test_signature_over_the_payload_without_its_type_is_refused(court: AgentCourt) -> None:
    court.install()
    good = court.provider.endorse(court.document)
    other = court.provider.sign(b"", kind="application/json")
    sig = {"keyid": court.provider.keyid, "sig": base64.b64encode(other).decode()}
    court.endorsement = good | {"signatures": [sig]}

    refused_for(court, "provider-signature-invalid")


@pytest.mark.parametrize("years", [{"validUntil": 2026}, {"validFrom": 2027}])
def test_endorsement_outside_its_validity_is_refused(
    court: AgentCourt, years: dict[str, int]
) -> None:
    court.install()
    predicate = {key: moment(year).isoformat() for key, year in years.items()}
    court.endorsement = court.provider.endorse(court.document, predicate=predicate)

    refused_for(court, "provider-endorsement-expired")


def test_endorsement_ends_while_the_log_is_remembered(court: AgentCourt) -> None:
    court.install()
    until = (NOW + timedelta(minutes=1)).isoformat()
    court.endorsement = court.provider.endorse(court.document, predicate={"validUntil": until})
    assert court.verdict().vector.executables == 3
    court.at = NOW + timedelta(minutes=2)

    refused_for(court, "provider-endorsement-expired")


def test_providers_certificate_bounds_its_endorsements(court: AgentCourt) -> None:
    court.install()
    court.trusted = {"acme": court.provider.certificate(moment(2024), moment(2025))}
    refused_for(court, "provider-endorsement-expired")
    court.trusted = {"acme": court.provider.certificate(moment(2024), moment(2030))}

    assert court.verdict().vector.executables == 3


@pytest.mark.parametrize("predicate_type", ["https://slsa.dev/provenance/v1", "x"])
def test_statement_that_says_something_else_is_refused(
    court: AgentCourt, predicate_type: str
) -> None:
    court.install()
    court.endorsement = court.provider.endorse(court.document, predicate_type=predicate_type)

    refused_for(court, "provider-endorsement-malformed")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p384", "ed25519", "rsa"],
)
def test_every_kind_of_provider_key_is_taken(court: AgentCourt, key: Any) -> None:
    court.install()
    court.provider = SoftProvider(key)
    court.trusted = {"acme": court.provider.pem}
    court.endorsement = court.provider.endorse(court.document)

    assert court.verdict().vector.executables == 3
    court.endorsement = court.provider.endorse(b"other")
    refused_for(court, "provider-subject-mismatch")
    other = court.provider.endorse(court.document)
    court.endorsement = other | {"payload": court.endorsement["payload"]}
    refused_for(court, "provider-signature-invalid")


def test_one_trusted_signature_among_several_is_enough(court: AgentCourt) -> None:
    court.install()
    stranger = SoftProvider().endorse(court.document)
    mine = court.provider.endorse(court.document)
    both = [*stranger["signatures"], *mine["signatures"]]
    court.endorsement = mine | {"signatures": both}

    assert court.verdict().vector.executables == 3


def test_weak_trusted_key_endorses_nothing(court: AgentCourt) -> None:
    court.install()
    court.provider = SoftProvider(rsa.generate_private_key(65537, 1024))  # noqa: S505 - on purpose
    court.trusted = {"acme": court.provider.pem}
    court.endorsement = court.provider.endorse(court.document)

    refused_for(court, "provider-unknown")
