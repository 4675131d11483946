"""``make demo`` as a person runs it: the story is seen, and nothing stays behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from deploy.demo.observer import Heard
from deploy.demo.processes import Household, StoryBrokenError
from deploy.demo.site import Site
from deploy.demo.story import Story
from deploy.demo.timeline import Timeline

DEMO = [sys.executable, "-m", "deploy.demo"]


def _left_behind(root: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if root in line:
                found.append(line)
    return found


@pytest.mark.system
@pytest.mark.tpm
@pytest.mark.mqtt
@pytest.mark.timeout(240)
def test_demo_sees_every_step_then_leaves_nothing_behind(tmp_path: Path) -> None:
    timeline = tmp_path / "timeline.json"
    work = tmp_path / "work"
    work.mkdir()

    done = subprocess.run(
        DEMO,
        env={**os.environ, "DEMO_JSON": str(timeline), "TMPDIR": str(work), "KEEP": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads(timeline.read_text())
    assert all(
        set(entry) == {"t_ms", "device", "step", "status", "decision", "detail"}
        for entry in entries
    )
    story = [
        (entry["device"], entry["step"], entry["status"], entry["decision"]) for entry in entries
    ]
    for device in ("edge-a", "edge-b"):
        own = [step for step in story if step[0] == device]
        assert own[:3] == [
            (device, "manufactured", "", ""),
            (device, "enrolled", "", ""),
            (device, "first-evidence", "affirming", "allow"),
        ]
    assert story[-5:] == [
        ("edge-b", "tampered", "", ""),
        ("edge-b", "caught", "contraindicated", "deny"),
        ("edge-b", "log-forged", "", ""),
        ("edge-b", "lie-caught", "contraindicated", "deny"),
        ("edge-a", "still-trusted", "affirming", "allow"),
    ]
    at = {entry["step"]: entry for entry in entries if entry["device"] == "edge-b"}
    assert "log-replay-mismatch" in at["caught"]["detail"]
    assert "log-event-contradicts" in at["lie-caught"]["detail"]
    assert at["caught"]["t_ms"] - at["tampered"]["t_ms"] < 2500
    assert "to decision" in done.stdout
    assert _left_behind(str(work)) == []
    assert list(work.iterdir()) == []


@pytest.mark.system
@pytest.mark.tpm
@pytest.mark.mqtt
@pytest.mark.timeout(240)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGHUP])
def test_kept_demo_answers_as_printed_until_it_is_stopped(
    tmp_path: Path, ending: signal.Signals
) -> None:
    process = subprocess.Popen(
        DEMO,
        env={**os.environ, "KEEP": "1", "TMPDIR": str(tmp_path), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        printed = ""
        for line in process.stdout:
            printed += line
            if "stop   Ctrl-C" in line:
                break
        ca = re.search(r"--cacert (\S+)", printed)[1]
        token = re.search(r"Bearer (\S+)'", printed)[1]
        url = re.search(r"https://(localhost:\d+)(/results/v1/devices)", printed)
        query = re.search(r"query  (.*) \\\n\s+(.*)\n", printed)

        connection = http.client.HTTPSConnection(
            url[1], timeout=10, context=ssl.create_default_context(cafile=ca)
        )
        connection.request("GET", url[2], headers={"Authorization": f"Bearer {token}"})
        devices = json.load(connection.getresponse())
        connection.close()
        asked = subprocess.run(
            [*shlex.split(f"{query[1]} {query[2]}"), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )

        listed = {device["device_id"] for device in devices["devices"]}
        assert listed == {"edge-a", "edge-b"}
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout)["status"] == "affirming"
    finally:
        process.send_signal(ending)
        process.wait(30)
        process.stdout.close()
    assert _left_behind(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


class _LenientReader:
    """A verifier that goes on allowing what it should deny."""

    def get(self, path: str) -> dict[str, object]:
        return {"allow": path.startswith("/decisions/"), "reasons": []}


def _story(tmp_path: Path) -> Story:
    site = Site.prepare(tmp_path)
    return Story(site, Household(tmp_path), Timeline(Console(quiet=True)))


def test_story_breaks_when_a_tampered_device_is_still_allowed(tmp_path: Path) -> None:
    heard = Heard(
        device="edge-b",
        document={"status": "contraindicated", "at": "2026-01-01T00:00:00Z", "reasons": ["x: y"]},
        at=time.time(),
    )

    with pytest.raises(StoryBrokenError, match="should be contraindicated and deny"):
        _story(tmp_path)._judge(
            _LenientReader(), heard, "caught", wanted=("contraindicated", "deny")
        )


def test_story_breaks_when_the_fall_comes_too_late(tmp_path: Path) -> None:
    heard = Heard(
        device="edge-b",
        document={"status": "affirming", "at": "2026-01-01T00:00:00Z", "reasons": []},
        at=time.time(),
    )

    with pytest.raises(StoryBrokenError, match="noticed only after"):
        _story(tmp_path)._judge(
            _LenientReader(),
            heard,
            "caught",
            wanted=("affirming", "allow"),
            since=time.time() - 10,
        )


def test_story_breaks_when_a_process_dies(tmp_path: Path) -> None:
    household = Household(tmp_path)
    household.start("short", ["sh", "-c", "echo gone; exit 3"])
    time.sleep(0.3)

    with pytest.raises(StoryBrokenError, match="short ended with status 3"):
        household.check_alive()
    household.stop()
