"""The device daemon as a process, with a software TPM: its memory, and its work between quotes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from attestation.tpm.public import parse_public
from bench.house import House, house
from bench.inputs import largest_firmware_log
from bench.measure import Bench, Line, Unable, held_to
from deploy.demo.machine import boot
from deploy.demo.processes import run
from deploy.demo.site import DEVICES
from deploy.demo.swtpm import SoftwareTpm, SoftwareTpmError
from device_agent.ports import KeyRole
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout

BUDGET_RSS_MB: Final = 45.0
BUDGET_IDLE_PERCENT: Final = 0.5
_BUSY_S: Final = 6.0
_SETTLE_S: Final = 3.0
_IDLE_S: Final = 25.0
_WITHIN_S: Final = 30.0
_AT_LEISURE: Final = {
    "DEVICE_AGENT_EVIDENCE_INTERVAL_MIN_S": "50",
    "DEVICE_AGENT_EVIDENCE_INTERVAL_MAX_S": "3600",
}


def resident_memory() -> Iterator[Line]:
    """Let the daemon attest twice a second for a while, then read its resident memory."""
    for value in _measured({}, lambda pid: _resident_mb(pid, after_s=_BUSY_S)):
        yield held_to("daemon_rss_mb", value, "MB", BUDGET_RSS_MB, "≤")


def idle_work() -> Iterator[Line]:
    """Read the processor time that the daemon takes while nothing is asked of it."""
    for value in _measured(_AT_LEISURE, _idle_percent):
        yield held_to("daemon_idle_cpu_percent", value, "%", BUDGET_IDLE_PERCENT, "≤")


def _measured(environment: Mapping[str, str], measure: Callable[[int], float]) -> Iterator[float]:
    """Manufacture, enrol and start one daemon, wait until it is affirming, and measure it."""
    log = largest_firmware_log(trusted=True, bootable=True)
    try:
        with house(log) as running, SoftwareTpm() as chip:
            pid = _start(running, chip, log, environment)
            yield measure(pid)
    except SoftwareTpmError as error:
        raise Unable(str(error)) from error


def _start(running: House, chip: SoftwareTpm, log: bytes, environment: Mapping[str, str]) -> int:
    name = DEVICES[0]
    boot(chip, log)
    agent = EsapiTpm(chip.tcti, layout=TpmLayout())
    agent.create_identity_keys()
    for role in (KeyRole.IDEVID, KeyRole.IAK):
        key = parse_public(agent.public_area(role)).key
        agent.write_certificate(role, running.maker.issue(role, key, "BENCH-DAEMON"))
    agent.close()
    running.site.firmware_log(name).write_bytes(log)
    running.site.write_device_settings(name, chip.tcti)
    started = running.household.start(
        "daemon", running.site.device(name, "run"), env=dict(environment)
    )
    _wait_until_affirming(running, name)
    return started.process.pid


def _wait_until_affirming(running: House, name: str) -> None:
    end = time.monotonic() + _WITHIN_S
    told = ""
    while time.monotonic() < end:
        running.household.check_alive()
        # 1 while the daemon has written no state yet.
        told = run(running.site.device(name, "status", "--json"), statuses=(0, 1))
        if (json.loads(told).get("verdict") or {}).get("status") == "affirming":
            return
        time.sleep(0.2)
    raise RuntimeError(f"the daemon did not become affirming: {told[:300]}")


def _resident_mb(pid: int, *, after_s: float) -> float:
    time.sleep(after_s)
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise Unable("the kernel does not tell VmRSS")


def _idle_percent(pid: int) -> float:
    time.sleep(_SETTLE_S)
    before, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(_IDLE_S)
    return 100 * (_cpu_seconds(pid) - before) / (time.monotonic() - began)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


BENCHES = (
    Bench(names=("daemon_rss_mb",), run=resident_memory),
    Bench(names=("daemon_idle_cpu_percent",), run=idle_work),
)
