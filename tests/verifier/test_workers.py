"""The threads beside the doors: if one has ended, revocations may be due that nobody does."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import VerifierSite
from verifier.main import TEND_S


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_verifier_whose_revocations_by_time_have_ended_is_not_healthy(tmp_path: Path) -> None:
    """A row that cannot be read ends that thread; the watchdog must hear of it."""
    with VerifierSite(tmp_path / "site", SoftManufacturer()) as site:
        assert site.device().enrol().status == 201
        assert site.running.healthy()

        url = site.settings.store.url
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as raw, raw:
            raw.execute("UPDATE certificates SET kind = 'nobody', ends_us = 1")
        until = time.monotonic() + 10 * TEND_S
        while site.running.healthy() and time.monotonic() < until:
            time.sleep(0.1)

        assert not site.running.healthy()
