from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.demo.swtpm import SoftwareTpm
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.connection import Backoff
from tests.simulators.swtpm import (
    endorsed_state,
    endorsed_swtpm,
    manufactured,
    manufactured_swtpm,
    swtpm,
)

__all__ = ["endorsed_state", "endorsed_swtpm", "manufactured", "manufactured_swtpm", "swtpm"]

IMPATIENT = Backoff(attempts=3, first_s=0.001, longest_s=0.002)


@pytest.fixture
def tpm(swtpm: SoftwareTpm) -> Iterator[EsapiTpm]:
    """The adapter on a fresh software TPM, IDevID and IAK made."""
    adapter = EsapiTpm(swtpm.tcti, backoff=IMPATIENT)
    adapter.create_identity_keys()
    yield adapter
    adapter.close()
