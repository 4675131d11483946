"""The TPM-held private keys never exist outside: the daemon's disk and memory are searched.

A real daemon, as a process, makes and uses every kind of key on a software TPM: IDevID, IAK,
LDevID in both slots, AI agents'. Then all that it wrote and all its memory is searched for what a
software key would leave. The search itself is proven on processes that do hold such a key, in each
form, found without knowing its number.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from attestation.identity import agent_name
from device_agent.state.agents import AgentShelf
from device_agent.state.files import StateFile
from tests.device_agent.test_cli import ROOT, agent, manufacture, verifier
from tests.simulators.key_search import (
    Found,
    Point,
    memory_of,
    point_of,
    search_bytes,
    search_file,
    search_memory,
    search_numbers,
)
from tests.simulators.soft_device import SoftManufacturer
from tests.simulators.verifier_simulator import VerifierSimulator

__all__ = ["verifier"]

pytestmark = [pytest.mark.tpm, pytest.mark.system]

# Holds a key in one form only; says its public key, and waits.
HOLDER: Final = """
import sys
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import *
key = ec.generate_private_key(ec.SECP256R1())
public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
form = sys.argv[1]
if form == "pem":
    held = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
elif form == "sec1":
    held = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
elif form == "pkcs8":
    held = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
elif form == "octets":
    held = key.private_numbers().private_value.to_bytes(32, "big")
elif form == "object":
    held = key
if form != "object":
    del key
print(public, flush=True)
sys.stdin.read()
"""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Let a process stand still while it is read."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def searched(pid: int, publics: frozenset[Point]) -> list[Found]:
    with stopped(pid):
        regions = list(memory_of(pid))
    assert sum(len(region.content) for region in regions if region.written) > 4_000_000
    return search_memory(regions, publics)


OTHERS: Final = frozenset({point_of(ec.generate_private_key(ec.SECP256R1()).public_key())})
"""A key that is in no process but this one."""


@pytest.mark.parametrize(
    ("held", "forms"),
    [
        ("pem", {"pem"}),
        ("sec1", {"der"}),
        ("pkcs8", {"der"}),
        ("octets", {"octets"}),
        ("object", {"limbs"}),
    ],
)
def test_a_software_key_in_any_form_is_found_in_a_process(held: str, forms: set[str]) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, held], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        pem = b""
        while b"-----END" not in pem:
            pem += holder.stdout.readline()
        publics = frozenset({point_of(load_pem_public_key(pem))})

        found = searched(holder.pid, publics)
        of_another = searched(holder.pid, OTHERS) if held == "object" else []
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(10)

    assert forms <= {one.form for one in found}
    assert of_another == []


@pytest.mark.parametrize("position", [0, 4095, 4096 - 24, 8192 - 8, 12345])
@pytest.mark.parametrize("order", ["big", "little"])
def test_a_number_is_found_wherever_it_stands_on_a_page(position: int, order: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    at = position // 8 * 8
    number = key.private_numbers().private_value
    content = bytes(at) + number.to_bytes(32, order) + bytes(20_000)  # type: ignore[arg-type]

    found = search_numbers(content, frozenset({point_of(key.public_key())}), "here")

    assert [one.form for one in found] == ["octets" if order == "big" else "limbs"]


def test_a_key_is_found_in_a_file_also_behind_base64(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    publics = frozenset({point_of(key.public_key())})
    number = key.private_numbers().private_value.to_bytes(32, "big")
    forms = {
        "pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "der": b"x" + key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "json": json.dumps(
            {"key": __import__("base64").b64encode(b"abc" + number).decode()}
        ).encode(),
        "raw": b"odd" + number,
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        assert search_file(tmp_path / name, publics), name
    (tmp_path / "none").write_bytes(os.urandom(4096))
    assert search_file(tmp_path / "none", publics) == []
    assert search_bytes(b"-----BEGIN PRIVATE KEY-----", publics, "a name is no key") == []
    assert search_bytes(forms["pem"], OTHERS, "a library", any_pem=False) == []
    assert search_bytes(forms["pem"], publics, "a library", any_pem=False)


def leaf_point(chain_pem: str) -> Point:
    return point_of(x509.load_pem_x509_certificate(chain_pem.encode()).public_key())


def until(question: Callable[[], bool], *, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_no_private_key_of_the_tpm_is_on_the_daemons_disk_in_its_log_or_in_its_memory(
    verifier: tuple[VerifierSimulator, SoftManufacturer, Path], tmp_path: Path
) -> None:
    simulator, manufacturer, file = verifier
    config = ("--config", str(file))
    manufacture(manufacturer, config, tmp_path)
    store = StateFile(tmp_path / "state")
    publics = {leaf_point((tmp_path / f"{role}.pem").read_text()) for role in ("idevid", "iak")}
    assert agent(*config, "enrol").returncode == 0
    for name in ("planner", "coder"):
        assert agent(*config, "agent", "add", name).returncode == 0
    log = tmp_path / "daemon.log"
    with log.open("wb") as stderr:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "device_agent", *config, "run"],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DEVICE_AGENT_RENEWAL_ROTATE_AFTER_S": "4",
                "DEVICE_AGENT_LOG_LEVEL": "debug",
            },
            stderr=stderr,
        )
    try:
        seen: set[str] = set()

        def exchanged_twice() -> bool:
            saved = store.load()
            assert saved is not None
            for credential in (saved.credential, saved.candidate):
                if credential is not None:
                    seen.add(credential.certificate_chain_pem)
            return len({leaf_point(pem) for pem in seen}) >= 3

        until(exchanged_twice)
        ask_again(tmp_path / "state" / "agents")
        until(lambda: simulator.agents.calls.count("enrol planner") >= 2)
        exchanged_twice()
        publics |= {leaf_point(pem) for pem in seen}
        publics |= {
            leaf_point((tmp_path / "state" / "agents" / name / "certificate.pem").read_text())
            for name in ("planner", "coder")
        }
        assert len(publics) >= 7

        in_memory = searched(daemon.pid, frozenset(publics))
        on_disk = [
            one
            for path in (log, *(tmp_path / "state").rglob("*"))
            if path.is_file()
            for one in search_file(path, frozenset(publics))
        ]
    finally:
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(15)

    assert code == 0, log.read_text()
    assert in_memory == []
    assert on_disk == []


def ask_again(agents: Path) -> None:
    """Have the daemon renew an agent's certificate: its key is loaded and used in its process."""
    shelf = AgentShelf(agents.parent)
    with shelf.held(10):
        shelf.save(replace(shelf.load(agent_name("planner")), asked=True))
