"""AI agents asked for by a device that is unwell: it falls with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from tests.simulators.soft_ai_agent import SoftOwner
from tests.simulators.verifier_site import SiteDevice, decode_nonce
from tests.verifier.api.agent_site import (
    challenge,
    device,
    enrol,
    enrolled,
    named,
    new_device,
    owner,
    refused,
    request_of,
    send,
    site,
    store,
)
from verifier.issuance.reasons import Reason

__all__ = ["device", "new_device", "owner", "site"]


def judged(one: SiteDevice) -> list[int]:
    """The status of each result of a device, newest first."""
    return [result.status for result in store(one).history(DeviceId(one.device_id))]


def reasons(one: SiteDevice) -> list[int | None]:
    """For each certificate of device and agents why it was revoked; None while in force."""
    return [
        found.revoked_code if found.revoked_at else None
        for found in store(one).certificates(device=DeviceId(one.device_id))
    ]


def test_device_that_shows_contraindicated_evidence_for_its_agent_falls_with_all_agents(
    device: SiteDevice, owner: SoftOwner
) -> None:
    enrolled(device, named("planner"), owner)
    device.tamper()

    refused(enrol(device, named("mailer"), owner), Code.EVIDENCE_NOT_ACCEPTABLE)

    assert judged(device)[0] == TrustTier.CONTRAINDICATED
    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN] * 2
    refused(challenge(device), Code.CERTIFICATE_REVOKED)
    assert device.attest().json["status"] == "contraindicated"


@pytest.mark.parametrize("class_name", ["short-lived", "bare-one"])
def test_whatever_the_agents_class_wants(device: SiteDevice, class_name: str) -> None:
    """Evidence that is shown is judged, also where the class could do without it."""
    device.tamper()
    more = {} if class_name.startswith("short") else {"capabilities": ()}

    refused(enrol(device, named(class_name), None, **more), Code.EVIDENCE_NOT_ACCEPTABLE)

    assert judged(device)[0] == TrustTier.CONTRAINDICATED
    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN]


def test_another_devices_quote_over_the_agents_own_challenge_fells_neither(
    device: SiteDevice, new_device: Callable[[], SiteDevice]
) -> None:
    other = new_device()
    other.tamper()
    agent = named("short-lived")
    asked = challenge(device, agent.name)
    request = agent.request(device.tpm, decode_nonce(asked.json))
    answer = send(
        device,
        replace(request, evidence=other.evidence(asked.json), capabilities=("mail.send",)),
    )

    refused(answer, Code.EVIDENCE_NOT_ACCEPTABLE)
    assert "quote-signature-invalid" in answer.json["detail"]
    assert judged(device)[0] < TrustTier.CONTRAINDICATED
    assert reasons(device) == reasons(other) == [None]


def test_agents_refused_request_that_is_replayed_after_recovery_fells_nobody(
    device: SiteDevice,
) -> None:
    agent = named("short-lived")
    device.tamper()
    request = request_of(device, agent, None)
    refused(send(device, request), Code.EVIDENCE_NOT_ACCEPTABLE)
    device.tpm.reboot()
    assert device.log is not None
    device.boot(device.log)
    assert device.enrol().status == 201

    assert send(device, request).status == 403

    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN, None]
    assert device.attest().status == 200
