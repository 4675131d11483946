"""Whole evidence in files is judged by files alone: no store, no configuration, no maker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.simulators import evidence_files
from tests.simulators.command_line import Run, runner
from tests.simulators.terminal import on_terminal

MADE = Path(__file__).parents[2] / "data" / "made_here"
SERVER, EDGE = "linux-server", "linux-edge-ima"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``verifier`` where nothing is configured and no store is."""
    config = tmp_path / "verifier.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/absent/verifier.db"\n')
    return runner(monkeypatch, capfd, "-c", config)


def words(folder: Path, name: str, **other: Path) -> tuple[object, ...]:
    """The command of docs/verifier.md."""
    runtime = ("--runtime-policy", folder / f"{EDGE}.runtime.toml") if name == EDGE else ()
    return (
        "appraise",
        other.get("evidence", folder / f"{name}.evidence"),
        *("--ak", other.get("ak", folder / f"{name}.ak")),
        *("--reference", other.get("reference", folder / f"{name}.reference.toml")),
        *runtime,
        *("--policy", name),
    )


def test_verdicts_are_coloured_on_a_terminal_and_plain_in_a_pipe(run: Run) -> None:
    asked = (*words(MADE, SERVER), "--explain")

    shown = on_terminal("-m", "verifier", *map(str, asked), kind="xterm")
    plain = run(*asked)[1]

    assert "1 signature       \x1b[32mpassed\x1b[0m" in shown
    assert "status: \x1b[32maffirming\x1b[0m" in shown
    assert "\x1b" not in plain
    assert "1 signature       passed" in plain


@pytest.mark.parametrize("name", [SERVER, EDGE])
def test_evidence_of_the_repository_is_affirming(run: Run, name: str) -> None:
    code, out, err = run(*words(MADE, name), "--json")

    told = json.loads(out)
    assert (code, err, told["status"]) == (0, "", "affirming")
    assert {step["verdict"] for step in told["steps"]} == {"passed"}
    assert told["boot_facts"]["secure_boot"]["value"] is True
    assert (told["ima"] or {"entries": None})["entries"] == (4 if name == EDGE else None)
    assert "taken as given" in told["note"]


@pytest.mark.parametrize("name", [SERVER, EDGE])
def test_the_generator_makes_evidence_of_the_same_conclusion(
    run: Run, name: str, tmp_path: Path
) -> None:
    evidence_files.write(tmp_path, datetime.now(UTC))
    made = {path.name for path in tmp_path.iterdir() if path.name != "verifier.toml"}

    fresh, kept = (
        json.loads(run(*words(folder, name), "--json")[1]) for folder in (tmp_path, MADE)
    )

    assert made == {path.name for path in MADE.iterdir()}
    for told in (fresh, kept):
        del told["at"]
    assert fresh == kept


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_changed_byte_is_never_affirming(run: Run, place: float, tmp_path: Path) -> None:
    content = bytearray((MADE / f"{SERVER}.evidence").read_bytes())
    content[int(place * len(content))] ^= 1
    changed = tmp_path / "changed"
    changed.write_bytes(content)

    code, out, _ = run(*words(MADE, SERVER, evidence=changed), "--json")

    assert (code, json.loads(out)["status"]) == (1, "contraindicated")


def test_the_key_of_another_machine_is_refused(run: Run) -> None:
    code, out, _ = run(*words(MADE, SERVER, ak=MADE / f"{EDGE}.ak"))

    assert code == 1
    assert "quote-signature-invalid" in out


def test_a_runtime_policy_of_a_file_decides(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "edge.toml"
    lines = (MADE / f"{EDGE}.runtime.toml").read_text().splitlines()
    policy.write_text("\n".join(line for line in lines if not line.endswith("/usr/bin/agent")))
    given = [policy if str(one).endswith(".runtime.toml") else one for one in words(MADE, EDGE)]

    code, out, _ = run(*given)

    assert code == 1
    assert "/usr/bin/agent" in out


@pytest.mark.parametrize(
    "given",
    [
        ("appraise", MADE / f"{SERVER}.evidence", "--reference", MADE / f"{SERVER}.reference.toml"),
        ("appraise", "--device", "edge-1", "--policy", SERVER),
        ("appraise", "--device", "edge-1", "--reference", MADE / f"{SERVER}.reference.toml"),
    ],
)
def test_files_go_with_evidence_and_its_key(run: Run, given: tuple[object, ...]) -> None:
    code, out, err = run(*given)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--reference and --runtime-policy with EVIDENCE and --ak" in err


def test_without_files_the_store_is_asked_for_its_values(run: Run) -> None:
    evidence, ak = MADE / f"{SERVER}.evidence", MADE / f"{SERVER}.ak"

    code, _, err = run("appraise", evidence, "--ak", ak)

    assert (code, err.count("\n")) == (3, 1)
    assert "store-unavailable" in err
