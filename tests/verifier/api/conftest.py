"""One running verifier for the tests of each module."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite

_SERIALS = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    with VerifierSite(
        tmp_path_factory.mktemp("site"),
        SoftManufacturer(),
        extra="[limits]\nrequests_per_s = 1000.0\nburst = 100000\nbody_seconds = 1.5\n"
        "strangers_per_s = 1000.0\n",
    ) as running:
        yield running


@pytest.fixture
def new_device(site: VerifierSite) -> Callable[[], SiteDevice]:
    return lambda: site.device(f"API-{next(_SERIALS):04}")


@pytest.fixture
def device(new_device: Callable[[], SiteDevice]) -> SiteDevice:
    """An enrolled device."""
    made = new_device()
    answer = made.enrol()
    assert answer.status == 201, answer.body
    return made
