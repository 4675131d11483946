"""Fixtures around a real swtpm. Make them known with ``pytest_plugins`` or by importing them.

A fixture that is imported needs the session fixtures it stands on imported beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestation.tpm.public import parse_public
from deploy.demo.swtpm import SoftwareTpm, endorse
from device_agent import factory
from device_agent.ports import KeyRole
from device_agent.tpm.adapter import EsapiTpm
from tests.simulators.soft_manufacturer import SoftManufacturer

SERIAL = "SIM-0001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manufactured:
    """The state of a manufactured TPM, never started on, and the authority behind it.

    Attributes:
        state: Folder to copy: IDevID, IAK and both certificates are in it.
        manufacturer: Issued the certificates, for the serial :data:`SERIAL`.
    """

    state: Path
    manufacturer: SoftManufacturer


@pytest.fixture
def swtpm() -> Iterator[SoftwareTpm]:
    """A switched-on software TPM, fresh from the chip maker: no certificate, no persistent key."""
    with SoftwareTpm() as tpm:
        yield tpm


@pytest.fixture(scope="session")
def endorsed_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a TPM with EK certificates in NV, made once; copy it, never start on it.

    ``authority/`` beside it holds the CA that signed them.
    """
    root = tmp_path_factory.mktemp("endorsed")
    endorse(root / "state", root / "authority", serial="sim-0001", banks=("sha1", "sha256"))
    return root / "state"


@pytest.fixture
def endorsed_swtpm(endorsed_state: Path, tmp_path: Path) -> Iterator[SoftwareTpm]:
    """A switched-on software TPM with EK certificates (RSA-2048, P-384) in NV."""
    with _started_copy(endorsed_state, tmp_path) as tpm:
        yield tpm


@pytest.fixture(scope="session")
def manufactured(tmp_path_factory: pytest.TempPathFactory) -> Manufactured:
    """A TPM manufactured once per session: IDevID and IAK with their certificates in NV."""
    manufacturer = SoftManufacturer()
    state = tmp_path_factory.mktemp("manufactured") / "state"
    with SoftwareTpm(state) as software:
        tpm = EsapiTpm(software.tcti)
        tpm.create_identity_keys()
        idevid, iak = (
            manufacturer.issue(role, parse_public(tpm.public_area(role)).key, SERIAL)
            for role in (KeyRole.IDEVID, KeyRole.IAK)
        )
        factory.install(tpm, idevid_chain_der=[idevid], iak_chain_der=[iak])
        tpm.close()
    return Manufactured(state=state, manufacturer=manufacturer)


@pytest.fixture
def manufactured_swtpm(manufactured: Manufactured, tmp_path: Path) -> Iterator[SoftwareTpm]:
    """A switched-on software TPM that can enrol; every test gets the same keys in a fresh copy."""
    with _started_copy(manufactured.state, tmp_path) as tpm:
        yield tpm


def _started_copy(state: Path, tmp_path: Path) -> SoftwareTpm:
    own = tmp_path / "swtpm-state"
    shutil.copytree(state, own)
    return SoftwareTpm(own)
