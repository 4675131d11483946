"""``device-agent measure`` and ``[agent]`` of the settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_agent.cli import main
from device_agent.errors import SettingsInvalid
from device_agent.settings import parse_settings
from tests.simulators import soft_agent


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """The agent's root and a settings file."""
    root, document = soft_agent.install(tmp_path)
    config = tmp_path / "device-agent.toml"
    config.write_text(f'[agent]\nroot = "{root}"\naibom = "{document}"\nexclude = "cache"\n')
    return root, config


def test_agent_as_listed_is_exit_0(
    place: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(place[1]), "measure"]) == 0
    assert "field-assistant 2.1: 4 files; all as its AIBOM lists them" in capsys.readouterr().out


def test_help_leaves_capitals_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["measure", "--help"])

    assert "Show the AI agent's files" in capsys.readouterr().out


def test_differences_are_named_and_exit_1(
    place: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, config = place
    (root / "agent.py").write_bytes(b"evil")
    (root / "models/tiny.onnx").unlink()
    (root / "ex\x1btra").write_bytes(b"x")
    (root / "cache").mkdir()
    (root / "cache/x").write_bytes(b"x")

    assert main(["--config", str(config), "measure", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["difference"] == {
        "changed": ["agent.py"],
        "missing": ["models/tiny.onnx"],
        "unlisted": [r"ex\x1btra"],
    }
    assert main(["--config", str(config), "measure"]) == 1
    assert "changed   agent.py" in capsys.readouterr().out


def test_without_agent_it_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "/dev/null", "measure"]) == 2
    assert "set agent.root and agent.aibom" in capsys.readouterr().err


@pytest.mark.parametrize("pcr", [0, 7, 10, 16, 23])
def test_pcr_that_others_extend_or_reset_is_refused(pcr: int) -> None:
    with pytest.raises(SettingsInvalid, match=r"agent\.pcr"):
        parse_settings(f"[agent]\npcr = {pcr}\n", "t.toml", {})


def test_root_and_aibom_go_together() -> None:
    with pytest.raises(SettingsInvalid, match="go together"):
        parse_settings('[agent]\nroot = "/opt/agent"\n', "t.toml", {})
