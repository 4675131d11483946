"""``make demo``: two devices prove themselves; one is tampered with and falls within two seconds.

Exit code 0 only if every expected step was really seen. ``DEMO_JSON=FILE`` writes the timeline as
JSON; ``KEEP=1`` leaves everything running until Ctrl-C.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.demo.observer import MqttObserver
from deploy.demo.processes import Household, StoryBrokenError
from deploy.demo.site import DEVICES, Site
from deploy.demo.story import Story
from deploy.demo.timeline import Timeline

_ROOMY_COLUMNS: Final = 120
"""From this width on the table has room for reasons in words; below, only for their codes."""

_PIPED_COLUMNS: Final = 160

_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class InterruptedStoryError(Exception):
    """Somebody pressed Ctrl-C, sent SIGTERM or closed the terminal."""


def main() -> int:
    """Tell the story; return the exit code."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # mosquitto is there
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_COLUMNS)
    missing = [name for name in ("swtpm", "swtpm_setup", "mosquitto") if not shutil.which(name)]
    if missing:
        print(f"demo: {', '.join(missing)} not found; run: make setup", file=sys.stderr)
        return 2
    for number in _ENDINGS:
        signal.signal(number, _interrupt)
    root = Path(tempfile.mkdtemp(prefix="attestation-demo-"))
    site = Site.prepare(root)
    site.write_verifier_settings()
    household = Household(root / "logs")
    timeline = Timeline(console)
    story = Story(site, household, timeline)
    observers: list[MqttObserver] = []
    try:
        code = _tell(story, console, observers)
        if os.environ.get("KEEP") and code == 0:
            _keep(console, site, story)
    except InterruptedStoryError:
        code = 130
    finally:
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        for observer in observers:
            observer.close()
        household.stop()
        for tpm in story.tpms.values():
            tpm.close()
        shutil.rmtree(root, ignore_errors=True)
        if target := os.environ.get("DEMO_JSON"):
            timeline.write_json(Path(target))
    return code


def _tell(story: Story, console: Console, observers: list[MqttObserver]) -> int:
    try:
        story.manufacture()
        story.open_house()
        observer, reader = story.begin()
        observers.append(observer)
        story.tamper(observer, reader)
    except StoryBrokenError as error:
        console.print(f"[red]not seen[/]: {error}", highlight=False, soft_wrap=True)
        return 1
    console.print(_table(story, console.width))
    return 0


def _table(story: Story, width: int) -> Table:
    table = Table(
        title="What the relying party saw last",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1, 0, 0),
    )
    for heading in ("device", "status", "trustworthiness\nvector", "decision"):
        table.add_column(heading, no_wrap=True)
    table.add_column("evidence\nto decision", justify="right", no_wrap=True)
    roomy = width >= _ROOMY_COLUMNS
    if roomy:
        table.add_column("reason", overflow="fold")
    for device in DEVICES:
        verdict = story.verdicts[device]
        colour = "green" if verdict.decision == "allow" else "red"
        vector = "\n".join(f"{name} {value}" for name, value in verdict.vector.items())
        code = "" if roomy else f"\n{escape(verdict.reason.partition(':')[0])}"
        table.add_row(
            device,
            f"[{colour}]{verdict.status}[/]{code}",
            vector,
            f"[{colour}]{verdict.decision}[/]",
            f"{verdict.decided_ms:.0f} ms",
            *((escape(verdict.reason) or "-",) if roomy else ()),
        )
    return table


def _keep(console: Console, site: Site, story: Story) -> None:
    certificate, key = site.certificate("observer")
    broker = f"--mqtt mqtts://localhost:{site.mqtt_port} --ca {site.service_ca}"
    console.print(
        f"""
Still running, below {site.root}. In another terminal:

  HTTP   curl --cacert {site.service_ca} -H 'Authorization: Bearer {story.token}' \\
           https://localhost:{site.https_port}/results/v1/devices
  MQTT   mosquitto_sub -h localhost -p {site.mqtt_port} --cafile {site.service_ca} \\
           --cert {certificate} --key {key} -V mqttv5 -t 'att/v1/+/result/summary' -v
  query  {site.verifier()[0]} query {DEVICES[0]} {broker} \\
           --cert {certificate} --key {key} --jwks https://localhost:{site.https_port}/.well-known/jwks.json
  steps  {shlex.join(site.verifier("appraise", "--device", DEVICES[1], "--explain"))}
  stop   Ctrl-C here, or: kill {os.getpid()}
""",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    threading.Event().wait()


def _interrupt(_number: int, _frame: object) -> None:
    raise InterruptedStoryError


if __name__ == "__main__":
    raise SystemExit(main())
