"""The issuing CA's key in a TPM: tpm2-pkcs11 over the resource manager, on swtpm.

Needs Debian's libtpm2-pkcs11-1, libtpm2-pkcs11-tools, libtss2-tcti-tabrmd0, tpm2-abrmd and dbus,
which `make setup` installs only if asked (SETUP_MORE_PACKAGES, as continuous integration does): the
resource manager is a service that would take a host's own TPM.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.demo.swtpm import SoftwareTpm
from tests.simulators.made_authority import copy_authority
from verifier.keys.offline_root import OFFLINE_ROOT
from verifier.store.migrate import migrate

MODULES = sorted(Path("/usr/lib").glob("*/pkcs11/libtpm2_pkcs11.so"))
TOOLS = ("tpm2_ptool", "tpm2-abrmd", "dbus-run-session")
PIN = "userpin-of-the-test"

pytestmark = [
    pytest.mark.tpm,
    pytest.mark.skipif(
        not MODULES or any(shutil.which(one) is None for one in TOOLS),
        reason="needs the packages that .ci/run names",
    ),
]

SCRIPT = """
set -eu
tpm2-abrmd --session --allow-root --tcti="$1" >"$2/abrmd.log" 2>&1 &
manager=$!
trap 'kill $manager' EXIT
export TPM2_PKCS11_TCTI=tabrmd:bus_type=session TPM2TOOLS_TCTI=tabrmd:bus_type=session
export TPM2_PKCS11_STORE="$2/store"
tries=0
until tpm2_getrandom 4 >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 60 ] || exit 9; sleep 0.1
done
ptool() { command=$1; shift; /usr/bin/python3 "$(command -v tpm2_ptool)" $command "$@" \
    --path "$TPM2_PKCS11_STORE" >&2; }
ptool init
ptool addtoken --pid=1 --label=host --sopin="$3" --userpin="$3"
ptool addkey --label=host --userpin="$3" --algorithm=ecc256 --key-label=issuing
"$4" --config "$2/verifier.toml" ca rotate --root "$2/keys/$5" --key-label issuing >&2
"$4" --config "$2/verifier.toml" ca status --json
"""


def test_issuing_moves_into_the_hosts_tpm(swtpm: SoftwareTpm, tmp_path: Path) -> None:
    copy_authority(tmp_path / "keys", datetime.now(UTC))
    (tmp_path / "store").mkdir()
    pin = tmp_path / "pin"
    pin.touch(0o600)
    pin.write_text(PIN)
    (tmp_path / "verifier.toml").write_text(
        f"""
[store]
url = "sqlite:///{tmp_path}/verifier.db"
[keys]
directory = "{tmp_path}/keys"
[authority]
backend = "pkcs11"
pkcs11_module = "{MODULES[0]}"
pkcs11_token = "host"
pin_file = "{pin}"
"""
    )
    migrate(f"sqlite:///{tmp_path}/verifier.db")
    verifier = Path(sys.executable).parent / "verifier"

    ran = subprocess.run(
        [
            *("dbus-run-session", "--", "sh", "-c", SCRIPT, "test"),
            *(swtpm.tcti, tmp_path, PIN, verifier, OFFLINE_ROOT),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert ran.returncode == 0, ran.stderr
    current = json.loads(ran.stdout)["authorities"][1]
    assert (current["state"], current["backend"], current["problem"]) == ("current", "pkcs11", "")
    path = tmp_path / "keys" / "authority" / f"{current['id']}.cert.pem"
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert not path.with_name(f"{current['id']}.key.pem").exists()
