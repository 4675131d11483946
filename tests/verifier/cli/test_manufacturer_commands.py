"""``verifier manufacturer``: single steps, the folder, the manifest."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.simulators import soft_tpm_maker
from tests.simulators.command_line import Run, runner
from tests.simulators.soft_factory import SoftUnit, wrong_answer

ROOT = Path(__file__).parents[3]
MAKER = soft_tpm_maker.root()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd, "manufacturer")


@pytest.fixture
def plant(tmp_path: Path, run: Run) -> Path:
    """A manufacturer's CA, the roots of its TPM maker, and a folder for requests."""
    assert run("init", "--directory", tmp_path / "ca", "--name", "Acme")[0] == 0
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "maker.der").write_bytes(MAKER.der)
    (tmp_path / "folder").mkdir()
    return tmp_path


def where(plant: Path) -> list[str]:
    return ["--directory", str(plant / "ca"), "--ek-roots", str(plant / "roots")]


def put(plant: Path, serial: str, **more: object) -> tuple[SoftUnit, Path]:
    unit = SoftUnit(serial, MAKER, **more)  # type: ignore[arg-type]
    path = plant / "folder" / f"{serial}.csr"
    path.write_bytes(unit.request())
    return unit, path


def answer(unit: SoftUnit, request: Path) -> None:
    challenge = request.with_suffix(".challenge").read_bytes()
    request.with_suffix(".answer").write_bytes(unit.answer(challenge))


def states(said: str) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(said)}


def serials(plant: Path, run: Run) -> list[str]:
    _, told, _ = run("manifest", "--directory", plant / "ca", "--json")
    return [row["serial"] for row in json.loads(told)["devices"]]


def verified(plant: Path, certificate: Path) -> str:
    """Let openssl judge a chain: nothing of ours takes part in it."""
    root = plant / "ca" / "manufacturer-ca.cert.pem"
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(root), str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_challenge_and_issue_by_single_steps(plant: Path, run: Run) -> None:
    unit, request = put(plant, "EB-1")

    code, said, _ = run("challenge", request, *where(plant))
    assert (code, "factory answer" in said) == (0, True)
    answer(unit, request)
    code, said, _ = run(
        "issue", request, *where(plant), "--ek", "activate", "--out", plant / "out",
        "--answer", request.with_suffix(".answer"), "--json",
    )  # fmt: skip

    told = json.loads(said)
    assert (code, told["resident"], told["again"]) == (0, True, False)
    for role in ("idevid", "iak"):
        assert verified(plant, plant / "out" / f"{role}.pem").endswith(": OK\n")
    text = subprocess.run(
        ["openssl", "x509", "-in", plant / "out" / "iak.pem", "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "1.3.6.1.5.5.7.8.4" in text or "othername" in text
    assert "2.23.133.11.1.1" in text
    assert "serialNumber = EB-1" in text


def test_issue_without_the_wanted_proof_says_what_to_do(plant: Path, run: Run) -> None:
    _, request = put(plant, "EB-1")

    code, _, said = run("issue", request, *where(plant), "--ek", "activate", "--out", plant / "o")

    assert code == 1
    assert said.startswith("verifier: activation-missing: ")
    assert not (plant / "o").exists()


def test_folder_is_taken_as_far_as_it_goes_each_time(plant: Path, run: Run) -> None:
    first, one = put(plant, "EB-1")
    second, two = put(plant, "EB-2")
    (plant / "folder" / "broken.csr").write_bytes(b"\x00")
    words = ("line", plant / "folder", *where(plant), "--json")

    code, said, _ = run(*words)
    assert code == 1
    assert states(said) == {
        "EB-1": "waits for its answer",
        "EB-2": "waits for its answer",
        "broken": "refused",
    }
    given = one.with_suffix(".challenge").read_bytes()
    run(*words)
    assert one.with_suffix(".challenge").read_bytes() == given

    answer(first, one)
    _, said, _ = run(*words)
    assert states(said)["EB-1"] == "made"
    assert not one.with_suffix(".answer").exists()
    answer(second, two)
    _, said, _ = run(*words)
    assert (states(said)["EB-1"], states(said)["EB-2"]) == ("made before", "made")
    assert serials(plant, run) == ["EB-1", "EB-2"]
    assert verified(plant, one.with_suffix(".idevid.pem"))


def test_wrong_answer_is_told_and_a_new_challenge_follows(plant: Path, run: Run) -> None:
    unit, request = put(plant, "EB-1")
    words = ("line", plant / "folder", *where(plant), "--json")
    run(*words)
    request.with_suffix(".answer").write_bytes(wrong_answer(request.read_bytes()))

    code, said, _ = run(*words)
    assert (code, states(said)) == (1, {"EB-1": "refused"})
    assert "credential-activation-failed" in said
    _, said, _ = run(*words)
    assert states(said) == {"EB-1": "waits for its answer"}
    answer(unit, request)
    assert run(*words)[0] == 0


def test_lost_folder_is_filled_again_from_the_journal(plant: Path, run: Run) -> None:
    unit, request = put(plant, "EB-1")
    words = ("line", plant / "folder", *where(plant), "--json")
    run(*words)
    answer(unit, request)
    run(*words)
    made = request.with_suffix(".iak.pem").read_bytes()
    request.with_suffix(".iak.pem").unlink()
    request.write_bytes(unit.request(entropy=b"\x07" * 16))

    _, said, _ = run(*words)
    assert states(said) == {"EB-1": "made before"}
    assert request.with_suffix(".iak.pem").read_bytes() == made


def test_second_certificate_wants_a_reason_and_says_it_loudly(plant: Path, run: Run) -> None:
    def issue(*more: object) -> tuple[int, str, str]:
        return run("issue", request, *where(plant), "--out", plant / "out", *more)

    _, request = put(plant, "EB-1")
    assert issue()[0] == 0
    _, request = put(plant, "EB-1")
    code, _, said = issue()
    assert code == 1
    assert said.startswith("verifier: already-manufactured: EB-1")
    assert issue("--replace", "  ")[0] == 1

    code, said, _ = issue("--replace", "mainboard changed")
    assert code == 0
    assert "\nREPLACED entry 1: EB-1 of 20" in said
    _, told, _ = run("manifest", "--directory", plant / "ca", "--json")
    old, new = json.loads(told)["devices"]
    assert (old["replaced_by"], new["replaces"], new["reason"]) == (2, "1", "mainboard changed")
    assert len(json.loads(told)["head"]) == 64


def test_manifest_as_csv_names_the_very_certificates(plant: Path, run: Run) -> None:
    _, request = put(plant, "EB-1")
    request.write_bytes(SoftUnit("EB-1", MAKER).request(product_model=b"=cmd|' /C calc'!A0"))
    run("issue", request, *where(plant), "--out", plant / "out")

    _, said, _ = run("manifest", "--directory", plant / "ca", "--csv")
    (row,) = csv.DictReader(io.StringIO(said))
    certificate = x509.load_pem_x509_certificate((plant / "out" / "idevid.pem").read_bytes())
    assert row["idevid_certificate_serial"] == f"{certificate.serial_number:x}"
    assert row["model"] == "'=cmd|' /C calc'!A0"
    assert row["resident"] == "no"
    code, said, _ = run("manifest", "--directory", plant / "ca")
    assert (code, said.splitlines()[1].split("\t")[2]) == (0, "EB-1")


def test_empty_manifest_is_no_error(plant: Path, run: Run) -> None:
    assert run("manifest", "--directory", plant / "ca", "--csv") == (0, "", "")


def test_serial_that_is_not_on_the_list_is_refused(plant: Path, run: Run) -> None:
    _, request = put(plant, "EB-1")
    (plant / "list").write_text("EB-2\n")

    code, _, said = run(
        "issue", request, *where(plant), "--out", plant / "out", "--inventory", plant / "list"
    )
    assert code == 1
    assert "not in the inventory" in said


def test_list_of_keys_wants_the_proof(plant: Path, run: Run) -> None:
    _, request = put(plant, "EB-1")
    (plant / "keys").write_text("# none\nxyz\n")
    words = (request, *where(plant), "--out", plant / "out", "--ek-allow-list", plant / "keys")

    assert "wants --ek activate" in run("issue", *words)[2]
    assert "line 2: wanted a SHA-256" in run("issue", *words, "--ek", "activate")[2]


def test_folder_that_is_none_is_said_to_be_none(plant: Path, run: Run) -> None:
    code, _, said = run("line", plant / "nowhere", *where(plant))

    assert code == 2
    assert "is no folder" in said


def started(plant: Path, *more: str) -> subprocess.Popen[str]:
    words = ["manufacturer", "line", str(plant / "folder"), *where(plant), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "verifier", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path) -> None:
    ends = time.monotonic() + 30
    while not path.exists() and time.monotonic() < ends:
        time.sleep(0.02)
    assert path.exists()


def test_line_that_is_killed_in_the_middle_makes_nobody_twice(plant: Path, run: Run) -> None:
    requests = [put(plant, f"EB-{number:02}")[1] for number in range(60)]
    kills = 0
    # Each pass goes on from what is done; the last may end by itself.
    while (done := sum(one.with_suffix(".iak.pem").exists() for one in requests)) < 53:
        line = started(plant, "--ek", "check")
        wait_for(requests[done + 7].with_suffix(".idevid.pem"))
        kills += line.poll() is None
        line.kill()
        line.wait()
        for pipe in (line.stdout, line.stderr):
            if pipe is not None:
                pipe.close()
    code, said, _ = run("line", plant / "folder", *where(plant), "--ek", "check", "--json")
    assert (code, set(states(said).values()) - {"made before"}) in [(0, {"made"}), (0, set())]

    assert kills >= 3
    code, said, _ = run("line", plant / "folder", *where(plant), "--ek", "check", "--json")
    assert (code, set(states(said).values())) == (0, {"made before"})
    assert sorted(serials(plant, run)) == [f"EB-{number:02}" for number in range(60)]
    _, told, _ = run("manifest", "--directory", plant / "ca", "--json")
    given = {row["serial"]: row["iak_certificate_sha256"] for row in json.loads(told)["devices"]}
    for one in requests:
        pem = x509.load_pem_x509_certificate(one.with_suffix(".iak.pem").read_bytes())
        assert sha256(pem.public_bytes(Encoding.DER)).hexdigest() == given[one.stem]


def test_watching_line_follows_a_device_by_itself(plant: Path) -> None:
    line = started(plant, "--watch")
    unit, request = put(plant, "EB-1")
    wait_for(request.with_suffix(".challenge"))
    part = request.with_suffix(".part")
    part.write_bytes(unit.answer(request.with_suffix(".challenge").read_bytes()))
    part.rename(request.with_suffix(".answer"))
    wait_for(request.with_suffix(".iak.pem"))
    time.sleep(0.2)
    line.send_signal(signal.SIGINT)
    said, complaint = line.communicate(timeout=20)

    assert line.returncode == 0, complaint
    assert "EB-1\tmade" in said
