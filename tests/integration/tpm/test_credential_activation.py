"""Secrets wrapped by the verifier, unwrapped by TPM2_ActivateCredential in a software TPM.

The TPM side is tpm2-tools: nothing of ours takes part in it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.identity import KeyName
from attestation.reader import pack
from attestation.tpm.public import TpmPublic, parse_public_any
from deploy.demo.swtpm import SoftwareTpm
from verifier.issuance.credential_activation import Credential, make_credential

pytestmark = pytest.mark.tpm

SECRET = bytes(range(32))
TOOLS_MAGIC, TOOLS_VERSION = 0xBADCC0DE, 1


class Bench:
    """An EK by its TCG template and an attestation key below it."""

    def __init__(self, tpm: SoftwareTpm, folder: Path, algorithm: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TPM2TOOLS_TCTI": tpm.tcti}
        # Templates of the high range are used by password; those of the low range by policy.
        self.by_policy = algorithm != "ecc384"
        self.run("tpm2_createek", "-G", algorithm, "-c", "ek.ctx", "-u", "ek.pub")
        self.run("tpm2_readpublic", "-c", "ek.ctx", "-f", "pem", "-o", "ek.pem")
        self.run(
            *("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.pub"),
            *("-G", "ecc", "-g", "sha256", "-s", "ecdsa"),
        )
        self.ek = load_pem_public_key((folder / "ek.pem").read_bytes())

    def run(self, *command: str) -> int:
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, check=False
        )
        subprocess.run(
            ["tpm2_flushcontext", "-t"], env=self.environment, capture_output=True, check=True
        )
        return done.returncode

    def ak(self) -> TpmPublic:
        return parse_public_any((self.folder / "ak.pub").read_bytes())

    def wrap(self, name: bytes) -> Credential:
        return make_credential(
            self.ek,  # type: ignore[arg-type]
            KeyName(name),
            SECRET,
            entropy=secrets.token_bytes(138),
        )

    def activate(self, credential: Credential) -> bytes | None:
        head = pack(">II", TOOLS_MAGIC, TOOLS_VERSION)
        content = head + credential.blob + credential.encrypted_seed
        (self.folder / "credential").write_bytes(content)
        command = [
            *("tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx"),
            *("-i", "credential", "-o", "out"),
        ]
        if self.by_policy:
            self.run("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
            self.run("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
            command += ["-P", "session:session.ctx"]
        done = self.run(*command)
        if self.by_policy:
            self.run("tpm2_flushcontext", "session.ctx")
        return (self.folder / "out").read_bytes() if done == 0 else None


@pytest.fixture(params=["rsa", "ecc", "ecc384"])
def bench(request: pytest.FixtureRequest, swtpm: SoftwareTpm, tmp_path: Path) -> Bench:
    return Bench(swtpm, tmp_path, request.param)


def test_tpm_gives_back_the_secret_for_its_own_attestation_key(bench: Bench) -> None:
    assert bench.activate(bench.wrap(bench.ak().name)) == SECRET


def test_tpm_gives_nothing_for_another_key_or_attribute(bench: Bench) -> None:
    ak = bench.ak()
    other = parse_public_any(ak.raw[:7] + bytes([ak.raw[7] ^ 0x40]) + ak.raw[8:])

    assert other.name != ak.name
    assert bench.activate(bench.wrap(other.name)) is None


def test_tpm_gives_nothing_for_a_changed_credential(bench: Bench) -> None:
    good = bench.wrap(bench.ak().name)
    blob = good.blob[:-1] + bytes([good.blob[-1] ^ 1])

    assert bench.activate(Credential(blob=blob, encrypted_seed=good.encrypted_seed)) is None
