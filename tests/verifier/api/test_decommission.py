"""Devices that end by a date: what they are issued, and that they do not come back after it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode as Code
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, SiteDevice, VerifierSite
from tests.verifier.api.agent_site import enrolled, named, refused
from tests.verifier.services.revocation_yard import DEFAULT
from verifier.ports import DeviceRecord
from verifier.services.decommission import Decommission
from verifier.services.revocation import Revocation

POLICY = """
id = "ends"
[[device]]
class = "rented"
match = { serial = "RENT-*" }
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
lifetime_days = 90
overlap_hours = 1
decommission_days = 30
[[device]]
class = "owned"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
lifetime_days = 90
overlap_hours = 1
[[agent]]
class = "any"
proofs = ["pop", "evidence"]
lifetime_days = 90
"""
SILENT = """
id = "silent-on-planned-ends"
[events.stale]
action = "alarm"
after_hours = 24
"""
"""So that the running verifier's upkeep does not come before a test."""
_SERIALS = itertools.count(1)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("ends")
    (folder / "enrolment.toml").write_text(POLICY)
    (folder / "revocation.toml").write_text(SILENT)
    with VerifierSite(
        folder,
        SoftManufacturer(),
        extra=f'enrolment = "{folder}/enrolment.toml"\nrevocation = "{folder}/revocation.toml"\n'
        "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n",
    ) as running:
        yield running


Make = Callable[[str], SiteDevice]


@pytest.fixture
def make(site: VerifierSite) -> Make:
    def made(kind: str) -> SiteDevice:
        device = site.device(f"{kind}-{next(_SERIALS):04}")
        answer = device.enrol()
        assert answer.status == 201, answer.body
        return device

    return made


def record(device: SiteDevice) -> DeviceRecord:
    found = device.site.running.store.device(DeviceId(device.device_id))
    assert found is not None
    return found


def end_of(chain_pem: Any) -> datetime:
    return x509.load_pem_x509_certificates(chain_pem)[0].not_valid_after_utc


def plan(device: SiteDevice, ends: datetime | None) -> None:
    said = Decommission(device.site.running.store)
    said.plan(device.device_id, ends, datetime.now(UTC))


def ended(device: SiteDevice) -> Answer:
    """Let the device's date have come a second ago."""
    now = datetime.now(UTC)
    with device.site.running.store.work() as work:
        assert work.decommission(DeviceId(device.device_id), now - timedelta(seconds=1), now)
    return device.enrol()


def test_device_ends_by_its_class_and_its_certificates_with_it(make: Make) -> None:
    device = make("RENT")
    first = record(device)

    assert first.decommission_at is not None
    assert first.decommission_at - first.enrolled_at == 30 * DAY
    assert end_of(device.chain_pem) <= first.decommission_at
    assert first.decommission_at - end_of(device.chain_pem) < timedelta(seconds=2)

    assert device.enrol().status == 201
    assert record(device).decommission_at == first.decommission_at
    assert end_of(device.chain_pem) <= first.decommission_at


def test_device_of_a_class_without_an_end_has_none(make: Make) -> None:
    device = make("OWN")

    assert record(device).decommission_at is None
    assert end_of(device.chain_pem) - datetime.now(UTC) > 89 * DAY


def test_operators_date_caps_what_is_issued_from_then_on(make: Make) -> None:
    device = make("OWN")
    ends = datetime.now(UTC) + 9 * DAY
    plan(device, ends)

    assert device.enrol().status == 201

    assert end_of(device.chain_pem) <= ends
    assert (record(device).decommission_at, record(device).decommission_told) == (ends, True)
    agent = enrolled(device, named("planner"), None, capabilities=())
    assert end_of(agent["certificate_chain_pem"].encode()) <= ends


def test_operators_later_date_and_never_stay_over_enrolments(make: Make) -> None:
    device = make("RENT")
    later = datetime.now(UTC) + 60 * DAY
    for ends in (later, None):
        plan(device, ends)
        assert device.enrol().status == 201
        assert record(device).decommission_at == ends
    assert end_of(device.chain_pem) > later


def test_device_past_its_date_neither_enrols_nor_attests_before_it_is_revoked(make: Make) -> None:
    device = make("OWN")

    refused(ended(device), Code.DEVICE_DECOMMISSIONED)

    refused(device.client.post("/attest/v1/challenges"), Code.DEVICE_DECOMMISSIONED)
    assert not record(device).enrolment.revoked


def test_operator_may_still_give_it_another_date(make: Make) -> None:
    device = make("OWN")
    refused(ended(device), Code.DEVICE_DECOMMISSIONED)
    plan(device, None)

    assert device.enrol().status == 201


def test_device_whose_date_has_come_is_revoked_for_good(make: Make) -> None:
    device = make("OWN")
    now = datetime.now(UTC)
    plan(device, now + 9 * DAY)
    revocation = Revocation(device.site.running.store, DEFAULT)

    while revocation.tend(now + 9 * DAY):
        pass

    refused(device.enrol(), Code.DEVICE_REVOKED)
    assert record(device).revoked_reason.startswith("decommission")
