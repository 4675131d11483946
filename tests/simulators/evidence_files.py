"""Evidence as files, to be judged offline: a real firmware log under a software TPM's quote.

``python -m tests.simulators.evidence_files FOLDER`` writes for each of two machines the evidence,
the attestation key that quoted (``.ak``) and the reference values (``.reference.toml``); one of
them also sends what it ran (``.runtime.toml``). Keys are made anew each time and thrown away: the
files of another run differ, what is concluded of them does not.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.evidence import ImaPart, qualifying_data
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.pcr import PcrBanks
from attestation.wire.evidence_codec import encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.simulators.ima_kernel import ImaKernel
from tests.simulators.soft_device import SoftTpm
from verifier.reference_values.golden import learn
from verifier.reference_values.runtime_learn import learn_runtime_policy
from verifier.reference_values.toml_file import dump_reference_set
from verifier.sources import packaged_policy

DATA: Final = Path(__file__).resolve().parents[1] / "data"
LOG: Final = DATA / "keylime_keylime/create-mb-policy/binary_bios_measurements-secureboot"
"""A virtual machine with Secure Boot on that boots Red Hat Enterprise Linux 9."""

SERVER, EDGE = "linux-server", "linux-edge-ima"
RAN: Final = (b"/usr/lib/systemd/systemd", b"/usr/bin/bash", b"/usr/bin/agent")
_BANK: Final = HashAlgorithm.SHA256


def write(folder: Path, at: datetime) -> None:
    """Write the files of both machines into an existing folder.

    Args:
        folder: Where to; files of the same names are replaced.
        at: When the reference values were learnt (aware).
    """
    _write_machine(folder, SERVER, at, None)
    with tempfile.TemporaryDirectory() as kernel:
        tpm = SoftTpm()
        running = ImaKernel(Path(kernel), tpm.extend_pcr, tuple(HashAlgorithm)[:2])
        boot = replay(parse_firmware_log(LOG.read_bytes())).pcrs
        tpm.load_pcrs(boot)
        running.boot(_aggregate(boot))
        for name in RAN:
            running.measure(name, hashlib.sha256(b"content of " + name).digest())
        _write_machine(folder, EDGE, at, (tpm, running.path.read_bytes()))


def _aggregate(pcrs: PcrBanks) -> bytes:
    """What Linux 5.8 and later measure first: PCR 0 to 9 (``ima_calc_boot_aggregate``)."""
    return hashlib.sha256(b"".join(pcrs[_BANK][index] for index in range(10))).digest()


def _write_machine(
    folder: Path, name: str, at: datetime, running: tuple[SoftTpm, bytes] | None
) -> None:
    log = LOG.read_bytes()
    replayed = replay(parse_firmware_log(log))
    policy = packaged_policy(name)
    tpm, ima = running if running is not None else (SoftTpm(), None)
    if running is None:
        tpm.load_pcrs(replayed.pcrs)
    values = tpm.read_pcrs(policy.selections)
    parts = encode_parts(
        values,
        log,
        log_digest_only=False,
        claims={"kernel": "5.14.0-503.11.1.el9_5.x86_64"},
        ima_list=None if ima is None else ImaPart(offset=0, content=ima),
    )
    nonce = os.urandom(32)
    quote = tpm.quote(policy.selections, qualifying_data(nonce, parts.digests))
    golden = learn(name, replayed, values, policy.selections, at, description="A machine of a test")
    (folder / f"{name}.evidence").write_bytes(encode_evidence(nonce, quote, parts))
    (folder / f"{name}.ak").write_bytes(tpm.public_area(KeyRole.IAK))
    (folder / f"{name}.reference.toml").write_text(
        dump_reference_set(replace(golden, to_review=frozenset())), encoding="utf-8"
    )
    if ima is not None:
        (folder / f"{name}.runtime.toml").write_text(
            learn_runtime_policy("edge", [(name, ima)]), encoding="utf-8"
        )


if __name__ == "__main__":
    write(Path(sys.argv[1]), datetime.now(UTC).replace(microsecond=0))
