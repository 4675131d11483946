"""Files that a command cannot use: one line that names the file, and never a traceback."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.simulators.command_line import runner
from verifier.cli.main import app
from verifier.errors import SettingsInvalid
from verifier.main import load_engine
from verifier.settings import load_settings
from verifier.sources import load_appraisal_policy

H12SSL = next((Path(__file__).parents[2] / "data").rglob("h12ssl"))
LOG, IMA = H12SSL / "eventlog", H12SSL / "binary_runtime_measurements"
NOT_UTF8 = b"# caf\xe9 \xff\xfe\n"


@pytest.fixture
def not_text(tmp_path: Path) -> Path:
    path = tmp_path / "latin"
    path.write_bytes(NOT_UTF8)
    return path


def test_settings_that_are_not_utf8_are_one_line(
    not_text: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = runner(monkeypatch, capfd, "-c", not_text)("devices", "list")

    assert said == (2, "", f"verifier: settings-invalid: {not_text} is not UTF-8 text\n")


def test_appraisal_policy_that_is_not_utf8_is_refused_by_name(not_text: Path) -> None:
    settings = load_settings(f'[policy]\nappraisal = "{not_text}"\n', "test", {})

    with pytest.raises(SettingsInvalid, match=r"policy\.appraisal '.*latin' is not UTF-8"):
        load_appraisal_policy(settings)


def test_decision_policy_that_is_not_utf8_is_refused_by_name(not_text: Path) -> None:
    settings = load_settings(f'[policy]\nrego = "{not_text}"\n', "test", {})

    with pytest.raises(SettingsInvalid, match=r"policy\.rego '.*latin' is not UTF-8"):
        load_engine(settings)


def test_compare_says_which_of_two_files_is_malformed(
    not_text: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capfd)

    for words in ((LOG, not_text), (not_text, LOG)):
        code, out, err = run("compare", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f": {not_text}: " in err


def test_compare_tells_what_is_wrong_with_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(LOG.read_bytes()[:300])

    _, _, err = runner(monkeypatch, capfd)("compare", LOG, cut)

    assert "as a firmware log: event " in err
    assert "; as evidence: " in err


@pytest.mark.parametrize("content", [b"", NOT_UTF8])
def test_learning_says_which_list_is_empty_or_malformed(
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "list"
    bad.write_bytes(content)

    code, out, err = runner(monkeypatch, capfd)("runtime-policy", "learn", IMA, bad, "--name", "x")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f": {bad}: " in err


@pytest.mark.parametrize("command", ["ima", "runtime-policy check"])
def test_empty_ima_list_is_refused(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    empty, policy = tmp_path / "list", tmp_path / "policy"
    empty.touch()
    policy.write_text(f"name = 'x'\nversion = 1\nfiles = '''\nsha256:{'0' * 64}  /bin/sh\n'''\n")
    words = ["ima"] if command == "ima" else ["runtime-policy", "check", policy]

    code, out, err = runner(monkeypatch, capfd)(*words, empty)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the list holds no entry" in err


class _Header(ctypes.Structure):
    """``struct __user_cap_header_struct`` (capset(2))."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """``struct __user_cap_data_struct``."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


CAPABILITIES_3 = 0x20080522
OVERRIDE, READ_SEARCH = 1 << 1, 1 << 2


@contextmanager
def held_to_modes() -> Iterator[None]:
    """Let file modes hold for root too: in this thread alone, for others may be at work."""
    libc, header, sets = ctypes.CDLL(None), _Header(CAPABILITIES_3, 0), (_Sets * 2)()
    assert libc.capget(ctypes.byref(header), sets) == 0
    before = sets[0].effective
    sets[0].effective = before & ~(OVERRIDE | READ_SEARCH)
    assert libc.capset(ctypes.byref(header), sets) == 0
    try:
        yield
    finally:
        sets[0].effective = before
        assert libc.capset(ctypes.byref(header), sets) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("eventlog", "FILE"),
        ("ima", "FILE"),
        ("quote", "--attest", "FILE", "--sig", "FILE", "--ak", "FILE"),
        ("compare", "FILE", "FILE"),
        ("ek", "FILE"),
        ("runtime-policy", "check", "FILE", "FILE"),
        ("aibom", "add", "FILE"),
        ("policy", "show", "FILE"),
        ("-c", "FILE", "check"),
    ],
    ids=" ".join,
)
def test_a_file_that_may_not_be_read_is_one_line(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "mine"
    file.touch(0o600)
    run = runner(monkeypatch, capfd)
    given = [str(file) if word == "FILE" else word for word in words]
    run(*given)  # whatever the command imports is imported as ourselves

    file.chmod(0)
    with held_to_modes():
        code, out, err = run(*given)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "mine" in err
    assert "Permission denied" in err


def file_parameters(command: Any, *above: str) -> Iterator[tuple[str, bool]]:
    """Yield each parameter of every command that is a path, and whether typer would open it."""
    for name, below in getattr(command, "commands", {}).items():
        yield from file_parameters(below, *above, name)
    for one in command.params:
        described = one.type_descriptor
        if "Path" in str(described.annotation):
            told = described.parameter_info
            opened = told.readable or told.writable or told.exists
            yield " ".join((*above, one.name)), opened


def test_every_command_opens_its_files_itself() -> None:
    """Else typer draws a box of usage around a file that may not be read."""
    found = dict(file_parameters(get_command(app)))

    assert [name for name, opened in found.items() if opened] == []
    assert {"eventlog file", "appraise evidence", "runtime-policy check ima_list"} <= found.keys()
