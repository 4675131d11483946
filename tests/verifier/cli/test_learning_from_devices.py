"""A device that is known to be good teaches the verifier, over the doors that an operator has.

The device enrols and attests over HTTPS; what is learnt of it is reviewed and then accepts it, and
nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.simulators.command_line import Run, runner
from tests.simulators.runtime_site import POLICY, digest_of
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, boot_log, in_use

MORE = "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n"
Begin = Callable[[str], tuple[VerifierSite, Run]]


@pytest.fixture
def begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Begin]:
    """Start a verifier with an appraisal policy; its commands run in this process."""
    started: list[VerifierSite] = []

    def start(policy: str) -> tuple[VerifierSite, Run]:
        file = tmp_path / "policy.toml"
        file.write_text(policy)
        site = VerifierSite(tmp_path / "site", SoftManufacturer(), policy=str(file), extra=MORE)
        site.start()
        started.append(site)
        return site, runner(monkeypatch, capfd, "-c", site.config)

    yield start
    for one in started:
        one.stop()


def enrolled(site: VerifierSite, serial: str, log: bytes | None = None) -> SiteDevice:
    made = site.device(serial, log)
    assert made.enrol().status == 201
    return made


def status(device: SiteDevice) -> tuple[str, list[str]]:
    """What the verifier says of the device now: the status, and the codes of its reasons."""
    answer = device.attest()
    assert answer.status == 200, answer.body
    told = answer.json
    return told["status"], sorted({reason.split(":")[0] for reason in told["reasons"]})


def test_learnt_and_reviewed_values_accept_the_device_they_are_of(begin: Begin) -> None:
    packaged = (resources.files("verifier.policies") / "development.toml").read_text()
    strict = packaged.replace('unreviewed = "accept"', "unreviewed = 32")
    assert strict != packaged
    site, run = begin(strict)
    golden, other = enrolled(site, "SN-0001"), enrolled(site, "SN-0002", boot_log(b"kernel 6.2"))
    unknown = status(golden)

    code, told, _ = run("reference-values", "learn", "--device", golden.device_id, "--name", "gold")
    in_use()
    learnt = status(golden)
    reviewed = run("reference-values", "review", "gold", "--by", "night shift")
    in_use()
    accepted, refused = status(golden), status(other)
    golden.tamper()
    tampered = status(golden)

    assert unknown == ("warning", ["reference-missing"])
    assert code == 0
    assert "learnt gold/1: " in told
    assert "not reviewed yet: PCR 0, 1" in told
    assert learnt == ("warning", ["reference-not-reviewed"])
    assert reviewed[0] == 0
    assert accepted[0] == "affirming"
    assert refused == ("warning", ["reference-mismatch"])
    assert tampered[0] == "contraindicated"


def test_nothing_is_learnt_of_a_device_whose_last_evidence_proves_nothing(begin: Begin) -> None:
    site, run = begin((resources.files("verifier.policies") / "development.toml").read_text())
    device = enrolled(site, "SN-0001")
    older = device.evidence(device.ask())
    device.submit(older)
    again = device.submit(older)
    assert again.json["reasons"][0].startswith("nonce-reused")

    code, _, told = run("reference-values", "learn", "--device", device.device_id, "--name", "gold")
    nobody = run("reference-values", "learn", "--device", "sn-0009", "--name", "gold")

    assert code != 0
    assert "evidence-not-acceptable" in told
    assert "step 3 (freshness) failed" in told
    assert nobody[0] != 0
    assert "device-unknown" in nobody[2]
    assert json.loads(run("reference-values", "list", "--json")[1]) == []


def test_learnt_runtime_policy_accepts_the_device_it_is_of(begin: Begin, tmp_path: Path) -> None:
    site, run = begin(POLICY)
    golden = site.device("SN-0001")
    kernel = golden.measures(tmp_path / "ima")
    for path in (b"/usr/bin/env", b"/usr/bin/sh"):
        kernel.measure(path, digest_of(path))
    assert golden.enrol().status == 201
    kernel.measure(b"/usr/bin/id", digest_of(b"/usr/bin/id"))
    learn = ("runtime-policy", "learn", golden.device_id, "--name", "box")
    unknown = status(golden)
    partly = run(*learn)
    golden.ima_next = 0  # as after a restart of the device agent
    assert status(golden) == unknown

    code, text, _ = run(*learn)
    file = tmp_path / "box.toml"
    file.write_text(text)
    added = run("runtime-policy", "add", file)
    in_use()
    golden.ima_next = 0  # as a device does that is told ima-offset-unknown
    accepted = status(golden)
    kernel.measure(b"/opt/new", digest_of(b"/opt/new"))
    changed = status(golden)

    assert unknown == ("warning", ["reference-missing"])
    assert partly[0] != 0
    assert "only the entries from 3 on; restart its device-agent" in partly[2]
    assert code == 0, text
    assert f"sha256:{digest_of(b'/usr/bin/env').hex()}  /usr/bin/env" in text
    assert added[0] == 0, added
    assert accepted[0] == "affirming"
    assert changed == ("warning", ["ima-file-unknown"])


def test_runtime_policy_is_tried_before_it_goes_live(begin: Begin, tmp_path: Path) -> None:
    site, run = begin(POLICY)
    device = site.device("SN-0001")
    kernel = device.measures(tmp_path / "ima")
    for path in (b"/usr/bin/env", b"/usr/bin/sh"):
        kernel.measure(path, digest_of(path))
    assert device.enrol().status == 201
    wider, stricter = tmp_path / "wider.toml", tmp_path / "stricter.toml"
    wider.write_text(run("runtime-policy", "learn", device.device_id, "--name", "box")[1])
    hole = digest_of(b"/usr/bin/env").hex()
    stricter.write_text(f"{wider.read_text()}\ndenied = '''\nsha256:{hole}  a known hole\n'''\n")

    better = run("runtime-policy", "dry-run", wider, "--json")
    assert run("runtime-policy", "add", wider)[0] == 0
    in_use()
    device.ima_next = 0
    assert status(device)[0] == "affirming"
    same = run("runtime-policy", "dry-run", wider)
    worse = run("runtime-policy", "dry-run", stricter)
    in_use()
    wrong = run("runtime-policy", "dry-run", tmp_path / "absent.toml")

    assert (better[0], json.loads(better[1])["devices"][0]["change"]) == (0, "better")
    assert same == (
        0,
        "1 devices: 0 worse, 0 better, 1 the same, 0 not judged. Nothing was changed\n",
        "",
    )
    assert worse[0] == 1, worse
    assert "sn-0001\tworse\taffirming\tcontraindicated\tima-file-denied: " in worse[1]
    assert wrong[0] == 2
    assert status(device)[0] == "affirming"
