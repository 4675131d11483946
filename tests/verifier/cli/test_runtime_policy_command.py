"""``verifier runtime-policy``, run as an operator runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulators.command_line import Run, runner
from tests.simulators.soft_ima import entry, field, ng
from verifier.store.migrate import migrate


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    migrate(url)
    config = tmp_path / "verifier.toml"
    config.write_text(f'[store]\nurl = "{url}"\n')

    return runner(monkeypatch, capfd, "-c", config)


@pytest.fixture
def ima_list(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_bytes(entry(ng(b"boot_aggregate", b"boot")) + entry(ng(b"/usr/bin/env", b"env")))
    return path


@pytest.fixture
def policy(run: Run, tmp_path: Path, ima_list: Path) -> Path:
    path = tmp_path / "box.toml"
    path.write_text(run("runtime-policy", "learn", ima_list, "--name", "box")[1])
    return path


def test_learnt_policy_is_added_listed_shown_and_removed(run: Run, policy: Path) -> None:
    added = run("runtime-policy", "add", policy, "--json")
    listed = run("runtime-policy", "list", "--json")
    shown = run("runtime-policy", "show", "box")
    removed = run("runtime-policy", "remove", "box")
    again = run("runtime-policy", "remove", "box")

    assert (added[0], json.loads(added[1])["stored"]) == (0, 1), added
    assert [one["name"] for one in json.loads(listed[1])] == ["box"]
    assert shown[1] == policy.read_text()
    assert removed[0] == 0
    assert (again[0], again[2].count("\n")) == (1, 1)


def test_check_says_what_a_list_has_beyond_the_policy(
    run: Run, policy: Path, ima_list: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.write_bytes(
        ima_list.read_bytes()
        + entry(ng(b"/opt/new", b"new"))
        + entry(field(bytes(20)) + field(b"/var/log/x\0"), digest=bytes(20))
    )

    clean = run("runtime-policy", "check", policy, ima_list)
    dirty = run("runtime-policy", "check", policy, more, "--json")

    assert (clean[0], "ok" in clean[1]) == (0, True)
    assert dirty[0] == 1
    assert json.loads(dirty[1])["counts"] == {"ima-file-unknown": 1, "ima-violation": 1}


def test_check_does_not_call_a_list_that_measures_no_file_clean(
    run: Run, policy: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.write_bytes(entry(ng(b"boot_aggregate", b"boot")))

    code, text, _ = run("runtime-policy", "check", policy, alone)
    told = json.loads(run("runtime-policy", "check", policy, alone, "--json")[1])

    assert code == 1
    assert text.endswith("ima-list-missing: 1: the list measures no file\n")
    assert told["counts"] == {"ima-list-missing": 1}


def test_diff_ends_with_1_where_something_differs(run: Run, policy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(policy.read_text().replace("/usr/bin/env", "/usr/bin/vne"))

    same, different = (run("runtime-policy", "diff", policy, one) for one in (policy, other))

    assert same[:2] == (0, "")
    assert different[0] == 1
    assert "newly allowed: /usr/bin/vne" in different[1]
    assert json.loads(run("runtime-policy", "diff", policy, other, "--json")[1])["removed"]


def test_wrong_policy_file_is_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("name = 'x'\nfile = ''\n")

    code, out, err = run("runtime-policy", "add", path)

    assert (code, out) == (2, "")
    assert "line 2: file: unknown key" in err
    assert err.count("\n") == 1


def test_nothing_is_learnt_from_a_device_that_is_not_enrolled(run: Run) -> None:
    code, out, err = run("runtime-policy", "learn", "box-0042", "--name", "box")

    assert out == ""
    assert code != 0
    assert "no device 'box-0042' is enrolled" in err
