"""PKCS#11 tokens of SoftHSM 2 (Debian: softhsm2), in a folder of their own for this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
)
PIN = "1967-four-digits-more"
SO_PIN = "security-officer-1967"
TOKENS = 32
"""A process sees the tokens that were there when it loaded the module: they are made before."""


@dataclass
class Tokens:
    """The tokens of this process, given out one by one."""

    folder: tempfile.TemporaryDirectory[str]
    module: str
    given: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": f"{self.folder.name}/softhsm2.conf"}

    def take(self) -> str:
        """Return the label of a token that nobody has used."""
        assert self.given < TOKENS, "make more tokens"
        self.given += 1
        return f"token-{self.given}"


def have_softhsm() -> bool:
    return shutil.which("softhsm2-util") is not None and any(one.exists() for one in MODULES)


@cache
def tokens() -> Tokens:
    """Make the tokens of this process."""
    if not have_softhsm():
        pytest.fail("softhsm2 is not installed; make setup installs it")
    folder = tempfile.TemporaryDirectory(prefix="softhsm-")
    module = next(str(one) for one in MODULES if one.exists())
    made = Tokens(folder, module)
    (Path(folder.name) / "tokens").mkdir()
    Path(made.environment["SOFTHSM2_CONF"]).write_text(
        f"directories.tokendir = {folder.name}/tokens\nobjectstore.backend = file\n"
        "log.level = ERROR\n"
    )
    os.environ.update(made.environment)  # SoftHSM itself reads it, when it is loaded
    for number in range(TOKENS):
        subprocess.run(
            [
                *("softhsm2-util", "--init-token", "--free", "--label", f"token-{number + 1}"),
                *("--so-pin", SO_PIN, "--pin", PIN),
            ],
            check=True,
            capture_output=True,
        )
    return made
