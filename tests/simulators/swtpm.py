"""Fixtures around a real swtpm. Make them known with ``pytest_plugins`` or by importing them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.swtpm import SoftwareTpm, endorse


@pytest.fixture
def swtpm() -> Iterator[SoftwareTpm]:
    """A switched-on software TPM, fresh from the factory: no certificate, no persistent key."""
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
    state = tmp_path / "swtpm-state"
    shutil.copytree(endorsed_state, state)
    with SoftwareTpm(state) as tpm:
        yield tpm
