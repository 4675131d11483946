"""A verifier with classes of AI agents, devices and their agents, for tests of its routes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from attestation.identity import agent_name
from attestation.refusals import RefusalCode as Code
from attestation.wire.agent_codec import AgentRequest, encode_agent
from attestation.wire.media_types import AGENT
from tests.simulators.soft_ai_agent import SoftAgentKey, SoftOwner
from tests.simulators.soft_jose import unb64
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, SiteDevice, VerifierSite, decode_nonce
from verifier.issuance.owners import pack_owner
from verifier.ports import DocumentKind, Store
from verifier.services.reference_documents import ReferenceDocuments

POLICY = """
id = "agents-test"
[[device]]
class = "default"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
accept = "warning"
[[agent]]
class = "short"
match = { name = "short-*" }
proofs = ["pop", "evidence"]
scope = ["mail.send"]
decommission_days = 1
[[agent]]
class = "bare"
match = { name = "bare-*" }
proofs = ["pop"]
[[agent]]
class = "assistant"
match = { device_classes = ["default"], name = "[a-r]*" }
proofs = ["pop", "residency", "evidence", "owner-binding"]
scope = ["calendar.read", "mail.read", "mail.send"]
overlap_hours = 1
"""
_SERIALS = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "enrolment.toml").write_text(POLICY)
    with VerifierSite(
        folder,
        SoftManufacturer(),
        extra=f'enrolment = "{folder}/enrolment.toml"\n'
        "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def owner(site: VerifierSite) -> SoftOwner:
    """An owner whose key the verifier holds."""
    made = SoftOwner()
    documents = ReferenceDocuments(site.running.store)
    documents.put(DocumentKind.OWNER, made.name, pack_owner(made.pem, None), datetime.now(UTC))
    return made


@pytest.fixture
def new_device(site: VerifierSite) -> Callable[[], SiteDevice]:
    def make() -> SiteDevice:
        device = site.device(f"AGT-{next(_SERIALS):04}")
        answer = device.enrol()
        assert answer.status == 201, answer.body
        return device

    return make


@pytest.fixture
def device(new_device: Callable[[], SiteDevice]) -> SiteDevice:
    return new_device()


def store(device: SiteDevice) -> Store:
    return device.site.running.store


def challenge(device: SiteDevice, agent: str = "planner") -> Answer:
    body = json.dumps({"agent": agent})
    return device.client.post("/enrol/v1/agents/challenges", body, "application/json")


def request_of(
    device: SiteDevice, agent: SoftAgentKey, owner: SoftOwner | None, **changes: object
) -> AgentRequest:
    asked = challenge(device, agent.name)
    assert asked.status == 200, asked.body
    binding = owner.bind(agent, unb64(asked.json["owner_nonce"])) if owner is not None else ""
    honest = agent.request(device.tpm, decode_nonce(asked.json))
    defaults: dict[str, object] = {
        "evidence": device.evidence(asked.json),
        "owner_binding": binding,
        "capabilities": ("mail.send",),
    }
    return replace(honest, **(defaults | changes))  # type: ignore[arg-type]


def send(device: SiteDevice, request: AgentRequest) -> Answer:
    return device.client.post("/enrol/v1/agents", encode_agent(request), AGENT)


def enrol(
    device: SiteDevice, agent: SoftAgentKey, owner: SoftOwner | None, **changes: object
) -> Answer:
    return send(device, request_of(device, agent, owner, **changes))


def enrolled(
    device: SiteDevice, agent: SoftAgentKey, owner: SoftOwner | None, **changes: object
) -> dict[str, Any]:
    answer = enrol(device, agent, owner, **changes)
    assert answer.status == 201, answer.body
    return answer.json


def named(name: str) -> SoftAgentKey:
    return SoftAgentKey(name=agent_name(name))


def certificate_in(document: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificates(document["certificate_chain_pem"].encode())[0]


def refused(answer: Answer, code: Code, status: int = 403) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), answer.body


def tokens(device: SiteDevice, name: str, key: str = "") -> Answer:
    path = f"/enrol/v1/agents/{name}/tokens"
    if not key:
        return device.client.post(path)
    return device.client.post(path, json.dumps({"key": key}), "application/json")
