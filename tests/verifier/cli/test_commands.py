"""The operator's commands, run as an operator runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.simulators.command_line import Run, runner
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.terminal import column, on_terminal
from tests.simulators.verifier_site import SiteDevice, VerifierSite, boot_log, in_use
from verifier.keys.authority import SERVICE_CA, create_tls_certificate, load_authority
from verifier.store.migrate import schema_state


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path_factory.mktemp("cli"), SoftManufacturer()) as running:
        yield running


@pytest.fixture(scope="module")
def device(site: VerifierSite) -> SiteDevice:
    made = site.device()
    assert made.enrol().status == 201
    made.attest()
    return made


@pytest.fixture
def run(
    site: VerifierSite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in this process, through its real entry point."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        return runner(monkeypatch, capfd, "-c", site.config)(*arguments)  # tests exchange it

    return run_command


def test_devices_are_listed_and_shown(run: Run, device: SiteDevice) -> None:
    code, listed, _ = run("devices", "list")
    _, shown, _ = run("devices", "show", device.device_id, "--json")

    assert code == 0
    assert listed.splitlines()[0].split("\t") == [
        "device",
        "status",
        "decision",
        "enrolled",
        "ends",
    ]
    assert any(line.split("\t")[0] == "sn-0001" for line in listed.splitlines())
    assert json.loads(shown)["result"]["status"] in {"warning", "affirming"}


def test_unknown_device_is_one_line_and_exit_1(run: Run) -> None:
    assert run("devices", "show", "nobody") == (
        1,
        "",
        "verifier: device-unknown: no device 'nobody' is enrolled here\n",
    )


def test_malformed_device_id_is_exit_2(run: Run) -> None:
    code, _, complaint = run("devices", "show", "NO/BODY")

    assert code == 2
    assert complaint.startswith("verifier: device-id-invalid: ")


def test_results_are_listed_newest_first(run: Run, device: SiteDevice) -> None:
    _, out, _ = run("results", device.device_id, "--json")

    numbers = [result["seq"] for result in json.loads(out)]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize("words", [("devices", "revoke"), ("revoke",)])
def test_revoked_device_is_listed_as_such(
    run: Run, site: VerifierSite, words: tuple[str, ...]
) -> None:
    other = site.device(f"SN-REVOKED-{len(words)}")
    other.enrol()

    code, _, _ = run(*words, other.device_id, "--reason", "stolen")

    assert code == 0
    assert f"{other.device_id}\trevoked" in run("devices", "list")[1]
    assert other.client.post("/attest/v1/challenges").json["code"] == "device-revoked"


def test_list_shows_no_revoked_device_as_allowed(run: Run, site: VerifierSite) -> None:
    """What was decided before the revocation is not what is decided now."""
    other = site.device("SN-FALLEN")
    other.enrol()
    run("reference-values", "learn", "--device", other.device_id, "--name", "fallen")
    while not other.attest().json["allow"]:
        time.sleep(0.1)
    before = run("devices", "list")[1]
    run("revoke", other.device_id, "--reason", "stolen")
    run("reference-values", "remove", "fallen")

    assert f"{other.device_id}\taffirming\tallow" in before
    assert f"{other.device_id}\trevoked\tdeny" in run("devices", "list")[1]


def test_reference_values_are_learnt_exported_imported_and_removed(
    run: Run, device: SiteDevice, tmp_path: Path
) -> None:
    assert (
        run("reference-values", "learn", "--device", device.device_id, "--name", "golden")[0] == 0
    )
    _, exported, _ = run("reference-values", "export", "golden")
    file = tmp_path / "set.toml"
    file.write_text(exported.replace('name = "golden"', 'name = "copied"'))
    assert run("reference-values", "import", str(file))[0] == 0

    _, listed, _ = run("reference-values", "list", "--json")

    assert {one["name"] for one in json.loads(listed)} == {"copied", "golden"}
    for name in ("copied", "golden"):
        assert run("reference-values", "remove", name)[0] == 0
    assert run("reference-values", "remove", "golden")[0] == 1


def test_set_learnt_from_a_log_equals_the_one_learnt_from_its_device(
    run: Run, device: SiteDevice, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_bytes(boot_log())
    run("reference-values", "learn", "--device", device.device_id, "--name", "device")
    run("reference-values", "learn", "--eventlog", str(log), "--name", "log")

    by_name = {}
    for name in ("device", "log"):
        exported = run("reference-values", "export", name)[1].splitlines()
        by_name[name] = [line for line in exported if line.split(" ")[0].isdigit()]
        run("reference-values", "remove", name)

    assert by_name["device"] == by_name["log"]
    assert by_name["device"]


def test_nothing_is_learnt_from_a_tampered_device(run: Run, site: VerifierSite) -> None:
    other = site.device("SN-TAMPERED")
    other.enrol()
    other.tamper()
    other.attest()

    code, _, complaint = run(
        "reference-values", "learn", "--device", other.device_id, "--name", "bad"
    )

    assert code == 2
    assert "step 4 (measured state) failed" in complaint


def test_learning_needs_one_source(run: Run) -> None:
    assert run("reference-values", "learn", "--name", "x")[0] == 2


def test_token_is_printed_once_and_works_until_removed(run: Run, site: VerifierSite) -> None:
    _, secret, _ = run("token", "create", "dashboard")
    client = site.client(token=secret.strip())
    assert client.get("/results/v1/devices").status == 200

    assert secret.strip() not in run("token", "list")[1]
    assert run("token", "create", "dashboard")[0] == 1
    assert run("token", "remove", "dashboard")[0] == 0
    assert client.get("/results/v1/devices").status == 401


def test_rotation_is_followed_by_the_running_service(
    run: Run, site: VerifierSite, device: SiteDevice
) -> None:
    assert run("keys", "rotate")[0] == 0
    listed = json.loads(run("keys", "list", "--json")[1])

    published = {key["kid"] for key in site.client().get("/.well-known/jwks.json").json["keys"]}

    assert published == {one["kid"] for one in listed}
    assert device.attest().status == 200


def test_policy_is_shown_and_checked(run: Run, tmp_path: Path) -> None:
    shown = json.loads(run("policy", "show", "--json")[1])
    wrong = tmp_path / "p.toml"
    wrong.write_text("id = 'x'\nsurprise = 1\n")

    code, _, complaint = run("policy", "check", str(wrong))

    assert shown["id"] == "development/1"
    assert shown["boot"]["dma_protection"]["otherwise"] == 33
    assert code == 2
    assert "line 2: surprise" in complaint


def test_packaged_policy_is_shown_by_its_name(run: Run) -> None:
    shown = json.loads(run("policy", "show", "linux-server", "--json")[1])
    code, out, complaint = run("policy", "show", "linux-serve")

    assert shown["id"].startswith("linux-server/")
    assert (code, out) == (2, "")
    assert "'linux-serve' is neither a packaged policy" in complaint


def test_policy_in_lines_says_what_each_rule_asks(run: Run) -> None:
    told = run("policy", "show", "linux-edge-ima")[1].splitlines()

    assert "ima.policy: edge" in told
    (dbx,) = [line for line in told if line.startswith("boot.dbx\t")]
    (words,) = [line for line in told if line.startswith("boot.command_line\t")]
    assert dbx.endswith("\tentries 1; at_least none")
    assert "forbidden init=/bin/*, init=/usr/bin/*, rdinit=*" in words
    assert " more; allowed none" in words


def test_packaged_policies_are_listed_with_the_one_in_use(run: Run) -> None:
    listed = json.loads(run("policy", "list", "--json")[1])

    assert {one["name"]: one["in_use"] for one in listed} == {
        "development": True,
        "linux-edge-ima": False,
        "linux-server": False,
    }
    assert run("policy", "list")[1].splitlines()[0] == "policy\tin use\tdescription"


@pytest.mark.parametrize("name", ["development", "linux-edge-ima", "linux-server"])
def test_each_packaged_policy_is_shown_whole(run: Run, name: str) -> None:
    file = Path("verifier/policies") / f"{name}.toml"

    code, told, _ = run("policy", "check", str(file))
    shown = json.loads(run("policy", "check", str(file), "--json")[1])

    assert code == 0
    assert "boot.unknown_events: " in told
    assert set(shown["boot"]) - {"unknown_events"} <= {
        *("secure_boot", "dbx", "exit_boot_services", "dma_protection", "command_line")
    }
    assert [rule["rule"] for rule in shown["rules"]] == [
        f"pcrs[{number}]" for number in range(1, len(shown["rules"]) + 1)
    ]


def test_explained_steps_are_numbered_and_the_exit_code_tells(run: Run, site: VerifierSite) -> None:
    other = site.device("SN-EXPLAIN")
    other.enrol()
    other.tamper()
    other.attest()

    code, out, _ = run("appraise", "--device", other.device_id, "--explain")

    assert code == 1
    lines = out.splitlines()
    assert [line[0] for line in lines[1:8]] == list("1234567")
    assert "4 measured state  failed" in out
    assert lines[-1].startswith("status: contraindicated")


def test_explanation_names_facts_and_the_rule_that_decided(
    run: Run, site: VerifierSite, tmp_path: Path
) -> None:
    in_use()  # whatever another test has changed
    other = site.device("SN-RULES")
    other.enrol()
    other.tamper()
    other.attest()

    told = json.loads(run("appraise", "--device", other.device_id, "--explain", "--json")[1])
    _, out, _ = run("appraise", "--device", other.device_id, "--explain")

    assert told["note"] == ""
    assert told["decided"]["executables"]["code"] == "log-replay-mismatch"
    assert told["decided"]["executables"]["rule"] == "pcrs[3]"
    assert {one["rule"] for one in told["findings"]} >= {"pcrs[3]", "boot.dma_protection"}
    assert "secure_boot" in told["boot_facts"]
    assert "what decided each claim:" in out
    assert "executables = 96 (contraindicated) by pcrs[3]: log-replay-mismatch" in out
    assert "\x1b" not in out


def test_two_evidences_are_compared_in_words(run: Run, site: VerifierSite, tmp_path: Path) -> None:
    other = site.device("SN-COMPARE")
    other.enrol()
    other.attest()
    other.log_known = False
    before, log = tmp_path / "before", tmp_path / "log"
    before.write_bytes(other.evidence(other.ask()))
    log.write_bytes(boot_log())
    other.tamper()
    other.attest()

    same = run("compare", str(before), str(before))
    code, out, _ = run("compare", str(before), "--device", other.device_id)
    told = json.loads(run("compare", str(before), "--device", other.device_id, "--json")[1])
    before.write_bytes(boot_log(b"kernel 6.2"))
    kernels = run("compare", str(log), str(before))

    assert same[:2] == (0, "every sha256 PCR that both tell is the same\n")
    assert code == 1
    assert ", and no log explains its value after" in out
    assert {one["explained"] for one in told["differences"]} == {False}
    assert "PCR 8 changed because" in kernels[1]
    assert "no quote proves it" in kernels[1]


def test_results_are_summed_up_and_their_changes_told(run: Run, site: VerifierSite) -> None:
    other = site.device("SN-HISTORY")
    other.enrol()
    other.attest()
    other.tamper()
    other.attest()

    headline = run("results", other.device_id)[1].splitlines()[0]
    changes = run("results", other.device_id, "--changes")[1]
    told = json.loads(run("results", other.device_id, "--changes", "--json")[1])

    assert headline.startswith("contraindicated since ")
    assert " → contraindicated" in changes
    assert "log-replay-mismatch" in changes
    assert told["status"] == "contraindicated"
    assert told["complete"] is True
    assert told["changes"][0]["appeared"] == ["log-replay-mismatch"]


def test_results_in_a_pipe_tell_every_reason_whole(run: Run, site: VerifierSite) -> None:
    other = site.device("SN-TWICE")
    other.enrol()
    for _ in range(2):
        other.attest()

    rows = [line.split("\t") for line in run("results", other.device_id)[1].splitlines()[2:]]
    told = json.loads(run("results", other.device_id, "--json")[1])

    assert [row[4] for row in rows] == [one["reasons"][0] for one in told]
    assert len({row[4] for row in rows}) == 1 < len(rows)


def test_results_on_a_terminal_tell_a_reason_once(run: Run, site: VerifierSite) -> None:
    other = site.device("SN-FOLDED")
    other.enrol()
    for _ in range(2):
        other.attest()
    told = json.loads(run("results", other.device_id, "--json")[1])

    said = on_terminal("-m", "verifier", "-c", str(site.config), "results", other.device_id)

    assert "as above" in column(said, 4, between=" ")
    assert said.count(told[0]["reasons"][0].partition(":")[0]) == 1
    assert f"appraise --device {other.device_id} --explain" in " ".join(said.split())


def test_evidence_file_is_judged_offline(run: Run, device: SiteDevice, tmp_path: Path) -> None:
    device.log_known = False
    file = tmp_path / "evidence"
    file.write_bytes(device.evidence(device.ask()))

    judged = json.loads(run("appraise", str(file), "--device", device.device_id, "--json")[1])
    file.write_bytes(b"nonsense")

    assert judged["status"] == "warning"
    assert [step["number"] for step in judged["steps"]] == list(range(1, 8))
    assert run("appraise", str(file), "--device", device.device_id)[0] == 2
    assert run("appraise")[0] == 2


@pytest.mark.parametrize(("days_ago", "verdict"), [(300, "ok"), (380, "warning"), (398, "failed")])
def test_doctor_tells_before_the_tls_certificate_ends(
    run: Run, site: VerifierSite, tmp_path: Path, days_ago: int, verdict: str
) -> None:
    service = load_authority(site.folder / "keys", SERVICE_CA)
    made = datetime.now(UTC) - timedelta(days=days_ago)
    create_tls_certificate(tmp_path, service, ("localhost",), made)

    told = tls_verdict(run, site, tmp_path)

    assert told["verdict"] == verdict
    assert ("init --hostname" in told["mend"]) is (verdict != "ok")


def tls_verdict(run: Run, site: VerifierSite, folder: Path) -> dict[str, str]:
    """What the doctor says of a TLS certificate and key in a folder."""
    before, site.config = site.config, folder / "v.toml"
    files = f'tls_certificate = "{folder}/tls.cert.pem"\ntls_key = "{folder}/tls.key.pem"\n'
    site.config.write_text(before.read_text().replace("[server]\n", f"[server]\n{files}"))
    try:
        told = json.loads(run("check", "--json")[1])
    finally:
        site.config = before
    return next(one for one in told if one["name"] == "tls")


def test_doctor_finds_what_is_missing_and_how_to_mend_it(
    run: Run, site: VerifierSite, tmp_path: Path
) -> None:
    code, out, _ = run("check", "--json")
    good = {one["name"]: one["verdict"] for one in json.loads(out)}
    assert code == 0
    assert good["store"] == good["keys"] == good["tls"] == "ok"

    site_config, broken = site.config, tmp_path / "v.toml"
    broken.write_text(
        site_config.read_text()
        .replace("verifier.db", "absent.db")
        .replace(str(site.folder / "keys"), str(tmp_path / "none"))
    )
    site.config = broken
    try:
        code, out, _ = run("check", "--json")
    finally:
        site.config = site_config

    bad = {one["name"]: one for one in json.loads(out)}
    assert code == 1
    assert bad["keys"]["verdict"] == "failed"
    assert bad["keys"]["mend"] == "verifier init"
    assert bad["store"]["verdict"] == "failed"


def test_store_without_tables_is_exit_3(run: Run, site: VerifierSite, tmp_path: Path) -> None:
    original, site.config = site.config, tmp_path / "v.toml"
    site.config.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/none.db"\n')
    try:
        code, _, complaint = run("devices", "list")
    finally:
        site.config = original

    assert code == 3
    assert "run: verifier init" in complaint


@pytest.mark.system
def test_init_makes_a_verifier_from_nothing(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "VERIFIER_STORE_URL": f"sqlite:///{tmp_path}/v.db",
        "VERIFIER_KEYS_DIRECTORY": f"{tmp_path}/keys",
        "VERIFIER_CONFIG": str(tmp_path / "empty.toml"),
    }
    (tmp_path / "empty.toml").touch()

    def verifier(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "verifier", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    first = verifier("init", "--hostname", "localhost", "--json")
    second = verifier("init", "--json")
    maker = verifier("manufacturer", "init", "--directory", str(tmp_path / "maker"), "--json")

    made: dict[str, Any] = json.loads(first.stdout)
    state = schema_state(environment["VERIFIER_STORE_URL"])
    assert made["tables"] == state.newest
    assert state.up_to_date
    assert [one.split(" ")[0] for one in made["made"]].count("issuing") == 1
    assert json.loads(second.stdout)["made"] == []
    path = Path(json.loads(maker.stdout)["certificate"])
    root = x509.load_pem_x509_certificate(path.read_bytes())
    assert root.subject.rfc4514_string() == "CN=Example Devices Root"
