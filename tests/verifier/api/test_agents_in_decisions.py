"""The PDP document of a decision that is asked for names the AI agents that are in force."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from attestation.identity import device_id
from tests.simulators.soft_ai_agent import SoftOwner
from tests.simulators.verifier_site import Client, SiteDevice, VerifierSite, now
from tests.verifier.api.agent_site import (
    device,
    enrolled,
    named,
    new_device,
    owner,
    site,
)
from verifier.issuance.revocation_policy import Event
from verifier.policy_engine.rego import RegoEngine
from verifier.services.decisions import Decisions
from verifier.services.revocation import Revocation

__all__ = ["device", "new_device", "owner", "site"]

ONLY_WITH_A_SENDER = """
package device_attestation.decision

import rego.v1

senders contains one.identifiers.name if {
	some one in input.agents
	"mail.send" in one.capabilities
}

default decision := {"allow": false, "reasons": ["no-sender: no agent here may send mail"]}

decision := {"allow": true, "reasons": []} if count(senders) > 0
"""


@pytest.fixture
def reader(site: VerifierSite) -> Client:
    return site.client(token=site.token(name=f"decisions {now().isoformat()}"))


def agents_in(reader: Client, device: SiteDevice) -> list[dict[str, Any]]:
    answer = reader.get(f"/decisions/v1/devices/{device.device_id}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["document"]["agents"]
    return found


def names_in(reader: Client, device: SiteDevice) -> list[str]:
    return [one["identifiers"]["name"] for one in agents_in(reader, device)]


def test_each_agent_has_its_own_identifier_affiliation_and_capabilities(
    reader: Client, device: SiteDevice, owner: SoftOwner
) -> None:
    assert agents_in(reader, device) == []
    planner = enrolled(device, named("planner"), owner, capabilities=("mail.send",))
    bare = enrolled(device, named("bare-1"), None, capabilities=(), evidence=b"")

    assert agents_in(reader, device) == [
        {
            "identifiers": {"name": "bare-1", "spiffe_id": bare["agent_id"]},
            "affiliations": {"agent_class": "bare"},
            "capabilities": [],
        },
        {
            "identifiers": {"name": "planner", "spiffe_id": planner["agent_id"]},
            "affiliations": {"agent_class": "assistant", "owner": owner.name},
            "capabilities": ["mail.send"],
        },
    ]


def test_agents_of_others_are_not_told(
    reader: Client, site: VerifierSite, device: SiteDevice, owner: SoftOwner
) -> None:
    other = site.device("OTHER-AGENTS")
    assert other.enrol().status == 201
    enrolled(other, named("planner"), owner)

    assert agents_in(reader, device) == []


def test_revoked_agent_is_gone_and_the_others_stay(
    reader: Client, site: VerifierSite, device: SiteDevice, owner: SoftOwner
) -> None:
    for name in ("mailer", "planner"):
        enrolled(device, named(name), owner)
    told = Revocation(site.running.store, site.running.revocation)

    told.holder(Event.AGENT_REMOVED, device.device_id, now(), agent="mailer")

    assert names_in(reader, device) == ["planner"]


def test_agent_whose_certificate_fell_is_gone_until_it_has_another(
    reader: Client, device: SiteDevice, owner: SoftOwner
) -> None:
    agent = named("planner")
    enrolled(device, agent, owner)
    device.tamper()
    device.attest()
    assert names_in(reader, device) == []

    assert device.log is not None
    device.tpm.reboot()
    device.boot(device.log)
    device.attest()
    enrolled(device, agent, owner)

    assert names_in(reader, device) == ["planner"]


def test_agent_whose_certificate_has_ended_is_gone(
    site: VerifierSite, device: SiteDevice, owner: SoftOwner
) -> None:
    enrolled(device, named("planner"), owner)
    store, who = site.running.store, device_id(device.device_id)
    (agent,) = store.agents(who)
    ends = agent.certificate_not_after

    assert len(store.agents_in_force(who, ends - timedelta(seconds=1))) == 1
    assert store.agents_in_force(who, ends) == []
    assert store.agents_in_force(who, now() - timedelta(days=1)) == []


def test_policy_may_ask_for_an_agents_capability(
    site: VerifierSite, device: SiteDevice, owner: SoftOwner
) -> None:
    decisions = Decisions(
        store=site.running.store,
        engine=RegoEngine(ONLY_WITH_A_SENDER),
        trust_domain="fleet.example",
    )
    before, _, _ = decisions.now(device.device_id, now())
    enrolled(device, named("planner"), owner, capabilities=("mail.send",))

    after, _, _ = decisions.now(device.device_id, now())

    assert (before.allow, before.reasons[0].partition(":")[0]) == (False, "no-sender")
    assert after.allow
