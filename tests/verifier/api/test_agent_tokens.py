"""Fresh tokens of agents and devices over HTTPS, and what operators see and do."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from cryptography import x509

from attestation.refusals import RefusalCode as Code
from attestation.wire.wit import verify_wit
from tests.simulators.command_line import runner
from tests.simulators.soft_ai_agent import SoftOwner
from tests.simulators.verifier_site import SiteDevice
from tests.verifier.api.agent_site import (
    certificate_in,
    challenge,
    device,
    enrolled,
    named,
    new_device,
    owner,
    refused,
    site,
    store,
    tokens,
)

__all__ = ["device", "new_device", "owner", "site"]


# --- tokens -------------------------------------------------------------------------------------


def test_agents_that_are_not_there_have_no_tokens(device: SiteDevice, owner: SoftOwner) -> None:
    refused(tokens(device, "nobody"), Code.AGENT_UNKNOWN, 404)
    enrolled(device, named("planner"), owner)
    refused(tokens(device, "planner", "A" * 43), Code.AGENT_UNKNOWN, 404)


def test_token_falls_with_its_certificate(device: SiteDevice, owner: SoftOwner) -> None:
    document = enrolled(device, named("planner"), owner)
    assert tokens(device, "planner").status == 200
    sha256 = store(device).certificate_by_serial(certificate_in(document).serial_number)
    assert sha256 is not None
    with store(device).work() as work:
        work.revoke_certificate(sha256.certificate.sha256, 1, "key lost", datetime.now(UTC))

    refused(tokens(device, "planner"), Code.CERTIFICATE_REVOKED)


def test_device_asks_for_a_token_of_its_own(device: SiteDevice) -> None:
    answer = device.client.post("/enrol/v1/tokens")
    jwks = device.site.client().get("/.well-known/jwks.json").json

    assert answer.status == 200, answer.body
    found = verify_wit(
        answer.json["token"], jwks, trust_domain="fleet.example", at=datetime.now(UTC)
    )
    assert found.subject == f"spiffe://fleet.example/device/{device.device_id}"
    assert found.key == x509.load_pem_x509_certificates(device.chain_pem)[0].public_key()


# --- operators ----------------------------------------------------------------------------------


def test_operator_lists_shows_and_revokes_agents(
    device: SiteDevice,
    owner: SoftOwner,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    document = enrolled(device, named("planner"), owner, capabilities=("mail.send",))
    run = runner(monkeypatch, capfd, "-c", device.site.config, "agents")

    listed = run("list", device.device_id)[1]
    shown = json.loads(run("show", device.device_id, "planner", "--json")[1])

    assert all(word in listed for word in ("planner", "enrolled", owner.name, "mail.send"))
    assert shown["agent_id"] == document["agent_id"]
    assert shown["certificate_serial"] == f"{certificate_in(document).serial_number:x}"
    code, out, err = run("revoke", device.device_id, "planner", "--reason", "it lied")
    assert (code, "it lied" in out) == (0, True), err
    assert "revoked" in run("list", device.device_id)[1]
    refused(tokens(device, "planner"), Code.AGENT_REVOKED)
    stored = store(device).certificate_by_serial(certificate_in(document).serial_number)
    assert stored is not None
    assert (stored.revoked_code, stored.revoked_reason) == (9, "it lied")
    assert run("revoke", device.device_id, "planner", "--reason", " ")[0] == 2


def test_agents_fall_with_their_device(device: SiteDevice, owner: SoftOwner) -> None:
    """Contraindicated evidence: no token from then on, and the certificate is revoked."""
    document = enrolled(device, named("planner"), owner)
    device.tamper()
    assert device.attest().json["status"] == "contraindicated"

    stored = store(device).certificate_by_serial(certificate_in(document).serial_number)

    assert stored is not None
    assert stored.revoked_at is not None
    assert tokens(device, "planner").status == 403
    assert challenge(device).status == 403


def test_audit_finds_agents_certificates_sound(
    device: SiteDevice,
    owner: SoftOwner,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    document = enrolled(device, named("planner"), owner)
    run = runner(monkeypatch, capfd, "-c", device.site.config, "certificates")

    code, out, err = run("audit")

    assert code == 0, out + err
    shown = run("show", document["agent_id"])[1]
    assert f"{certificate_in(document).serial_number:x}" in shown
