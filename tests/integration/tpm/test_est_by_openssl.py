"""EST with openssl alone, TLS and request by keys in the TPM: the commands of docs/est.md.

Needs Debian's tpm2-openssl and, as swtpm has no resource manager in the kernel, tpm2-abrmd and
dbus. `make setup` installs them only if asked (SETUP_MORE_PACKAGES, as .ci/run does).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from attestation.tpm.public import parse_public
from deploy.demo.swtpm import SoftwareTpm
from device_agent.ports import KeyRole
from device_agent.tpm.adapter import EsapiTpm
from tests.simulators.swtpm import Manufactured
from tests.simulators.verifier_site import VerifierSite, boot_log

ROOT = Path(__file__).parents[3]
PROVIDERS = sorted(Path("/usr/lib").glob("*/ossl-modules/tpm2.so"))
TOOLS = ("tpm2-abrmd", "dbus-run-session", "tpm2_nvread")

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(
        not PROVIDERS or any(shutil.which(one) is None for one in TOOLS),
        reason="needs the packages that .ci/run names",
    ),
]

MANAGED = """
set -eu
tpm2-abrmd --session --allow-root --tcti="$1" >abrmd.log 2>&1 &
manager=$!
trap 'kill $manager' EXIT
export TPM2OPENSSL_TCTI=tabrmd:bus_type=session TPM2TOOLS_TCTI=tabrmd:bus_type=session
export DEVICE_AGENT_TPM_TCTI=tabrmd:bus_type=session
tries=0
until tpm2_getrandom 4 >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 60 ] || exit 9; sleep 0.1
done
"""


def commands() -> str:
    """The commands of the page, between the fences."""
    page = (ROOT / "docs" / "est.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```sh\n(tls\(\) \{.*?)```", page, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, manufactured: Manufactured
) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("openssl")
    with VerifierSite(folder / "site", manufactured.manufacturer) as running:
        yield running


@pytest.fixture
def machine(site: VerifierSite, manufactured_swtpm: SoftwareTpm, tmp_path: Path) -> SoftwareTpm:
    """A machine that has booted as its log says, and its settings."""
    log = boot_log()
    (tmp_path / "log").write_bytes(log)
    for event in parse_firmware_log(log).events:
        if event.type != EventType.NO_ACTION:
            manufactured_swtpm.extend(event.pcr, dict(event.digests))
    (tmp_path / "a.toml").write_text(
        f"""
[verifier]
url = "https://localhost:{site.port}"
ca_file = "{site.service_ca}"
[evidence]
firmware_log = "{tmp_path}/log"
ima_list = ""
[state]
directory = "{tmp_path}/state"
"""
    )
    shutil.copy(site.service_ca, tmp_path / "service-ca.pem")
    return manufactured_swtpm


def run(site: VerifierSite, machine: SoftwareTpm, folder: Path, script: str) -> str:
    """Run a script beside the resource manager, ``device-agent`` on its path; it must succeed."""
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", MANAGED + script, "sh", machine.tcti],
        cwd=folder,
        env={
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "HOST": "localhost",
            "PORT": str(site.port),
            "DEVICE_AGENT_CONFIG": str(folder / "a.toml"),
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    logs = "".join(one.read_text() for one in sorted(folder.glob("*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def test_commands_of_the_page_enrol_and_renew(
    site: VerifierSite, machine: SoftwareTpm, tmp_path: Path
) -> None:
    said = run(site, machine, tmp_path, commands())

    first, second = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes())
        for name in ("device.pem", "renewed.pem")
    )
    tpm = EsapiTpm(machine.tcti)
    key = parse_public(tpm.public_area(KeyRole.LDEVID)).key
    tpm.close()
    assert "verify OK" in said
    assert first.public_key() == second.public_key() == key
    assert (first.subject, first.serial_number != second.serial_number) == (second.subject, True)
    entries = [one for one in site.running.store.log_entries() if one.kind == "issued"]
    proofs = [json.loads(one.entry)["proofs"] for one in entries]
    assert proofs == [["evidence", "idevid", "pop", "residency"], ["evidence", "pop", "residency"]]


def test_request_without_an_attestation_is_one_that_openssl_believes(
    site: VerifierSite, machine: SoftwareTpm, tmp_path: Path
) -> None:
    said = run(
        site,
        machine,
        tmp_path,
        """
device-agent csr | openssl req -noout -verify -subject -pubkey
device-agent csr --form der | openssl req -inform DER -noout -verify
device-agent csr --output request.pem
openssl req -in request.pem -noout -verify
device-agent csr --json
""",
    )

    assert said.count("verify OK") == 3
    assert "subject=CN = device" in said
    request = x509.load_pem_x509_csr((tmp_path / "request.pem").read_bytes())
    assert isinstance(request.public_key(), ec.EllipticCurvePublicKey)
    assert "-----BEGIN CERTIFICATE REQUEST-----\\nMI" in said
