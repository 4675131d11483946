"""What is learnt from a device's last evidence: only what that evidence proved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, decode_nonce, now
from verifier.errors import NotFound, RequestRefused
from verifier.services.last_evidence import proven_evidence
from verifier.services.reference_values import ReferenceValues
from verifier.services.runtime_policies import proven_list


@pytest.fixture
def site(tmp_path: Path) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path / "site", SoftManufacturer()) as running:
        yield running


@pytest.fixture
def device(site: VerifierSite) -> SiteDevice:
    made = site.device()
    assert made.enrol().status == 201
    assert made.attest().status == 200
    return made


def test_proven_evidence_is_the_last_one(site: VerifierSite, device: SiteDevice) -> None:
    challenge = device.ask()
    device.submit(device.evidence(challenge, kernel="6.2"))

    found = proven_evidence(site.running.store, device.device_id)

    assert found.nonce == decode_nonce(challenge)
    assert found.claims["kernel"] == "6.2"


def test_nothing_is_learnt_from_pcr_values_that_no_log_explains(
    site: VerifierSite, device: SiteDevice
) -> None:
    device.tamper()
    device.attest()
    store = site.running.store
    values = ReferenceValues(store, site.running.policy)

    for learn in (
        lambda: proven_evidence(store, device.device_id),
        lambda: values.learn_device(device.device_id, "edge", now()),
        lambda: proven_list(store, device.device_id),
    ):
        with pytest.raises(RequestRefused, match=r"step 4 \(measured state\) failed") as refused:
            learn()
        assert refused.value.code == RefusalCode.EVIDENCE_NOT_ACCEPTABLE
    assert store.reference_sets().sets == ()


def test_nothing_is_learnt_from_an_evidence_that_answers_no_nonce_of_ours(
    site: VerifierSite, device: SiteDevice
) -> None:
    challenge = device.ask()
    device.submit(device.evidence(challenge))
    device.submit(device.evidence(challenge))

    with pytest.raises(RequestRefused, match=r"step 3 \(freshness\) failed"):
        proven_evidence(site.running.store, device.device_id)


def test_who_is_not_here_has_no_evidence(site: VerifierSite) -> None:
    with pytest.raises(NotFound) as unknown:
        proven_evidence(site.running.store, "sn-0009")
    with pytest.raises(MalformedInput):
        proven_evidence(site.running.store, "no device id")

    assert unknown.value.code == RefusalCode.DEVICE_UNKNOWN
