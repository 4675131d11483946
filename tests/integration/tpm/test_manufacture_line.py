"""Manufacture end to end: software TPMs with makers' EK certificates, both programs' commands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import parse
from attestation.tpm.public import parse_public
from attestation.tpm.templates import KeyTemplate
from deploy.demo.swtpm import SoftwareTpm, endorse
from device_agent.cli import main as device_agent
from device_agent.errors import TlsSeamUnusable
from device_agent.factory import make_request
from device_agent.ports import KeyRole
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout
from device_agent.tpm.tls import use_tpm_key
from tests.simulators.command_line import Run, runner

pytestmark = pytest.mark.tpm

SERIAL = "EB-77"


class Bench:
    """A line, and a device whose TPM its maker endorsed."""

    def __init__(self, folder: Path, tpm: SoftwareTpm, roots: Path, template: str) -> None:
        self.folder, self.tpm, self.roots = folder, tpm, roots
        self.template = template
        (folder / "shared").mkdir()
        self.settings = folder / f"device-{tpm.port}.toml"
        self.settings.write_text(f'[tpm]\ntcti = "{tpm.tcti}"\ntemplate = "{template}"\n')

    def device(self, *words: str) -> int:
        return device_agent(["--config", str(self.settings), "factory", *words])

    def make(self) -> int:
        shared = str(self.folder / "shared")
        return self.device("make", "--model", "M 1", "--serial", SERIAL, "--folder", shared)

    def line(self) -> tuple[str, ...]:
        where = ("--directory", str(self.folder / "ca"), "--ek-roots", str(self.roots))
        return ("line", str(self.folder / "shared"), *where, "--json")

    def file(self, suffix: str) -> Path:
        return self.folder / "shared" / f"{SERIAL}{suffix}"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd, "manufacturer")


@pytest.fixture(params=["H-1", "H-2", "H-3"])
def bench(
    request: pytest.FixtureRequest,
    endorsed_state: Path,
    endorsed_swtpm: SoftwareTpm,
    tmp_path: Path,
    run: Run,
) -> Bench:
    assert run("init", "--directory", tmp_path / "ca")[0] == 0
    return Bench(tmp_path, endorsed_swtpm, endorsed_state.parent / "authority", request.param)


def test_device_is_made_in_two_round_trips(bench: Bench, run: Run) -> None:
    assert bench.make() == 1
    assert bench.file(".csr").exists()
    assert run(*bench.line())[0] == 0
    assert bench.make() == 1
    assert bench.file(".answer").exists()
    code, said, complaint = run(*bench.line())
    assert (code, json.loads(said)[0]["state"]) == (0, "made"), complaint
    assert bench.make() == 0
    assert bench.make() == 0
    assert bench.device("status") == 0

    tpm = EsapiTpm(bench.tpm.tcti, layout=TpmLayout(template=KeyTemplate(bench.template)))
    root = bench.folder / "ca" / "manufacturer-ca.cert.pem"
    for role in (KeyRole.IDEVID, KeyRole.IAK):
        der = tpm.certificate(role)
        assert der is not None
        certificate = x509.load_der_x509_certificate(der)
        expected = rsa.RSAPublicKey if bench.template == "H-1" else ec.EllipticCurvePublicKey
        assert isinstance(certificate.public_key(), expected)
        path = bench.file(f".{role}.pem")
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", root, path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert in_nv(bench.tpm, 0x01C90000 + (role is KeyRole.IAK)) == der
    tpm.close()
    _, told, _ = run("manifest", "--directory", bench.folder / "ca", "--json")
    (made,) = json.loads(told)["devices"]
    assert (made["serial"], made["resident"], len(made["ek_certificate_sha256"])) == (
        SERIAL,
        "yes",
        64,
    )


def in_nv(tpm: SoftwareTpm, index: int) -> bytes:
    """Read an NV index with tpm2-tools."""
    return subprocess.run(
        ["tpm2_nvread", hex(index)],
        env={**os.environ, "TPM2TOOLS_TCTI": tpm.tcti},
        capture_output=True,
        check=True,
    ).stdout


@pytest.fixture
def stranger(endorsed_state: Path, tmp_path: Path) -> Iterator[SoftwareTpm]:
    """Another TPM of the same maker."""
    authority = tmp_path / "authority"
    shutil.copytree(endorsed_state.parent / "authority", authority)
    endorse(tmp_path / "stranger", authority, serial="stranger", banks=("sha256",))
    with SoftwareTpm(tmp_path / "stranger") as tpm:
        yield tpm


@pytest.mark.parametrize("bench", ["H-2"], indirect=True)
def test_keys_of_another_tpm_beside_this_ek_certificate_get_nothing(
    bench: Bench, run: Run, stranger: SoftwareTpm, capfd: pytest.CaptureFixture[str]
) -> None:
    """The stranger's keys, told to live under the endorsed TPM's EK."""
    own, other = EsapiTpm(bench.tpm.tcti), EsapiTpm(stranger.tcti)
    endorsement = own.endorsement()
    other.endorsement = lambda: endorsement  # type: ignore[method-assign]
    forged = make_request(other, model="M 1", serial=SERIAL, entropy=bytes(16))
    assert parse(forged).content.ek_certificate == endorsement.certificate
    bench.file(".csr").write_bytes(forged)
    run(*bench.line())

    own.create_identity_keys()
    for tpm in (own, other):
        settings = bench.folder / "one.toml"
        tcti = bench.tpm.tcti if tpm is own else stranger.tcti
        settings.write_text(f'[tpm]\ntcti = "{tcti}"\n')
        words = ("--challenge", str(bench.file(".challenge")), "--output", str(bench.file(".x")))
        assert device_agent(["--config", str(settings), "factory", "answer", *words]) == 3
        assert RefusalCode.TPM_REFUSED in capfd.readouterr().err
        tpm.close()
    assert not bench.file(".x").exists()
    code, said, _ = run(*bench.line())
    assert (code, json.loads(said)[0]["state"]) == (0, "waits for its answer")


@pytest.mark.parametrize("bench", ["H-2"], indirect=True)
def test_keys_that_were_made_anew_make_a_new_request(bench: Bench, run: Run) -> None:
    bench.make()
    run(*bench.line())
    first = bench.file(".csr").read_bytes()
    assert bench.make() == 1
    assert bench.file(".csr").read_bytes() == first
    bench.file(".answer").unlink()

    environment = {**os.environ, "TPM2TOOLS_TCTI": bench.tpm.tcti}
    subprocess.run(
        ["tpm2_evictcontrol", "-c", "0x81020000"], env=environment, check=True, capture_output=True
    )
    subprocess.run(
        ["tpm2_evictcontrol", "-c", "0x81020001"], env=environment, check=True, capture_output=True
    )
    bench.settings.write_text(f'[tpm]\ntcti = "{bench.tpm.tcti}"\ntemplate = "H-3"\n')
    assert bench.make() == 1
    assert bench.file(".csr").read_bytes() != first
    assert not bench.file(".answer").exists()


@pytest.mark.parametrize("bench", ["H-2"], indirect=True)
def test_folder_that_is_missing_is_said_so(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("make", "--model", "M", "--serial", "S", "--folder", str(bench.folder / "nowhere"))
    assert bench.device(*words) == 2
    assert "is no folder" in capfd.readouterr().err


def test_rsa_identity_ends_at_tls_with_the_reason(manufactured_swtpm: SoftwareTpm) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    tpm = EsapiTpm(manufactured_swtpm.tcti)
    der = tpm.certificate(KeyRole.IDEVID)
    assert der is not None
    with pytest.raises(TlsSeamUnusable, match="manufacture this device by template H-2 or H-3"):
        use_tpm_key(
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            certificate_chain_pem=x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM),
            spki_der=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            sign_digest=lambda digest: digest,
        )
    assert parse_public(tpm.public_area(KeyRole.IDEVID)).spki_der
    tpm.close()


def test_tpm_without_certificate_names_its_key_for_the_list(
    swtpm: SoftwareTpm, tmp_path: Path, run: Run
) -> None:
    run("init", "--directory", tmp_path / "ca")
    (tmp_path / "roots").mkdir()
    bench = Bench(tmp_path, swtpm, tmp_path / "roots", "H-2")
    bench.make()
    tpm = EsapiTpm(swtpm.tcti)
    ek = parse_public(tpm.endorsement().public)
    tpm.close()
    line = ("line", str(tmp_path / "shared"), "--directory", str(tmp_path / "ca"), "--json")
    code, said, _ = run(*line)
    assert (code, json.loads(said)[0]["state"]) == (1, "refused")

    (tmp_path / "keys").write_text(f"{hashlib.sha256(ek.spki_der).hexdigest()}  # shelf 3\n")
    listed = (*line, "--ek-allow-list", str(tmp_path / "keys"))
    assert run(*listed)[0] == 0
    assert bench.make() == 1
    assert run(*listed)[0] == 0
    assert bench.make() == 0
