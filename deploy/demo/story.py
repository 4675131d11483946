"""The demo's story: each chapter does one thing and waits until it was seen over the wire."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from deploy.demo.machine import boot, forge_log, intrude
from deploy.demo.observer import Document, Heard, HttpReader, MqttObserver
from deploy.demo.processes import Household, StoryBrokenError, run
from deploy.demo.site import DEVICES, LOG_ORIGIN, REFERENCE_SET, Site
from deploy.demo.swtpm import SoftwareTpm, endorse
from deploy.demo.timeline import Timeline

FIRMWARE_LOG: Final = Path(__file__).parents[2] / "tests/data/google_go-eventlog/tpm/rhel8-uefi.bin"
VICTIM: Final = "edge-b"
TAMPERED_PCR: Final = 4
NOTICED_WITHIN_S: Final = 2.0
"""The promise: tampering is known, and decided on, within two seconds."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The last thing seen about a device, for the table at the end."""

    status: str
    decision: str
    vector: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    decided_ms: float = 0.0


class Story:
    """Plays the chapters in order.

    Args:
        site: Where everything is.
        household: Starts and stops the processes.
        timeline: Records what was seen.
    """

    def __init__(self, site: Site, household: Household, timeline: Timeline) -> None:
        self._site = site
        self._household = household
        self._timeline = timeline
        self._log = FIRMWARE_LOG.read_bytes()
        self.tpms: dict[str, SoftwareTpm] = {}
        self.token = ""
        self.verdicts: dict[str, Verdict] = {}

    def manufacture(self) -> None:
        """Chapter 1: two TPMs, two factory lines, one manufacturer CA; then both boot."""
        site = self._site
        self._timeline.begins("making two TPMs with EK certificates (swtpm)")
        authority = site.root / "tpm-vendor"
        manufacturer = str(site.root / "manufacturer")
        run(site.verifier("manufacturer", "init", "--directory", manufacturer))
        with ThreadPoolExecutor(len(DEVICES)) as workers:
            states = {device: site.root / device / "tpm" for device in DEVICES}
            first, *others = DEVICES
            endorse(states[first], authority, serial=first, banks=("sha256",))
            for device in others:  # one CA folder: one after the other
                endorse(states[device], authority, serial=device, banks=("sha256",))
            for device in DEVICES:
                self.tpms[device] = SoftwareTpm(states[device])
                self.tpms[device].start()
            self._timeline.begins("manufacturing: keys in each TPM, request, certificates, boot")
            list(workers.map(self._manufacture_one, DEVICES))

    def _manufacture_one(self, device: str) -> None:
        site = self._site
        folder = site.root / device
        site.write_device_settings(device, self.tpms[device].tcti)
        request, idevid, iak = (str(folder / name) for name in ("request", "idevid.pem", "iak.pem"))
        made = ("factory", "request", "--model", "H12SSL", "--serial", device.upper())
        run(site.device(device, *made, "--output", request))
        run(
            site.verifier(
                *("manufacturer", "issue", request),
                *("--directory", str(site.root / "manufacturer")),
                *("--out", str(folder), "--ek", "require"),
                *("--ek-roots", str(site.root / "tpm-vendor")),
            )
        )
        run(site.device(device, "factory", "install", "--idevid", idevid, "--iak", iak))
        status = json.loads(run(site.device(device, "factory", "status", "--json")))
        if not status["complete"]:
            raise StoryBrokenError(f"{device} is not fully manufactured: {status}")
        events = boot(self.tpms[device], self._log)
        site.firmware_log(device).write_bytes(self._log)
        self._timeline.seen(
            device, "manufactured", f"IDevID and IAK in the TPM; {events} firmware events booted"
        )

    def open_house(self) -> None:
        """Chapter 2: keys, broker, reference values, verifier."""
        site = self._site
        self._timeline.begins("setting up verifier and broker: keys, tables, reference values")
        run(site.verifier("init", "--hostname", "localhost"))
        site.issue_service_certificates()
        broker = site.write_broker_settings()
        self._household.start("mosquitto", ["mosquitto", "-c", str(broker)])
        run(
            site.verifier(
                *("reference-values", "learn", "--eventlog", str(FIRMWARE_LOG)),
                *("--name", REFERENCE_SET),
            )
        )
        run(site.verifier("reference-values", "review", REFERENCE_SET, "--by", "the demo"))
        made = run(site.verifier("token", "create", "demo", "--role", "reader", "--json"))
        self.token = json.loads(made)["token"]
        self._household.wait_for_port(site.mqtt_port, name="mosquitto", within_s=10)
        self._timeline.begins("starting the verifier")
        self._household.start("verifier", site.verifier("serve"))
        self._household.wait_for_port(site.https_port, name="verifier", within_s=20)
        self._timeline.seen("-", "verifier-ready", f"reference values from {LOG_ORIGIN}")

    def begin(self) -> tuple[MqttObserver, HttpReader]:
        """Chapter 3: the daemons start; the observer sees them enrol and be judged."""
        site = self._site
        certificate, key = site.certificate("observer")
        observer = MqttObserver(
            port=site.mqtt_port, ca=site.service_ca, certificate=certificate, key=key
        )
        reader = HttpReader(port=site.https_port, ca=site.service_ca, token=self.token)
        self._timeline.begins("starting both daemons")
        for device in DEVICES:
            self._household.start(device, site.device(device, "run"))
        for device in DEVICES:
            # Only the new TPM-held LDevID key opens the broker for this topic.
            observer.await_status(device, lambda document: bool(document.get("state")), 20)
            self._timeline.seen(device, "enrolled", "speaks MQTT with its TPM-held LDevID key")
        for device in DEVICES:
            heard = observer.await_summary(device, lambda document: "status" in document, 20)
            self._judge(reader, heard, "first-evidence", wanted=("affirming", "allow"))
        return observer, reader

    def tamper(self, observer: MqttObserver, reader: HttpReader) -> None:
        """Chapter 4: code that no log mentions runs on one device; then its log lies about it."""
        began = time.time()
        digest = intrude(self.tpms[VICTIM], TAMPERED_PCR, b"boot loader of an intruder")
        self._timeline.seen(
            VICTIM, "tampered", f"PCR {TAMPERED_PCR} extended behind the log's back"
        )
        heard = observer.await_summary(VICTIM, _says("log-replay-mismatch"), 20)
        self._judge(reader, heard, "caught", wanted=("contraindicated", "deny"), since=began)

        began = time.time()
        forged = forge_log(self._log, TAMPERED_PCR, digest)
        path = self._site.firmware_log(VICTIM)
        path.with_suffix(".new").write_bytes(forged)
        path.with_suffix(".new").rename(path)
        self._timeline.seen(VICTIM, "log-forged", "the log now explains it, with a lie")
        heard = observer.await_summary(VICTIM, _says("log-event-contradicts"), 20)
        self._judge(reader, heard, "lie-caught", wanted=("contraindicated", "deny"), since=began)

        for device in DEVICES:
            if device != VICTIM:
                self._still_trusted(observer, reader, device)

    def _still_trusted(self, observer: MqttObserver, reader: HttpReader, device: str) -> None:
        """The others must not suffer: wait for a result that is newer than the tampering."""
        after = time.time()
        heard = observer.await_summary(device, lambda document: _moment(document["at"]) > after, 20)
        self._judge(reader, heard, "still-trusted", wanted=("affirming", "allow"))

    def _judge(
        self,
        reader: HttpReader,
        heard: Heard,
        step: str,
        *,
        wanted: tuple[str, str],
        since: float | None = None,
    ) -> None:
        """Check what MQTT said and what the decision endpoint says; record both."""
        decision = reader.get(f"/decisions/v1/devices/{heard.device}")
        word = "allow" if decision["allow"] else "deny"
        status = str(heard.document["status"])
        reasons = heard.document.get("reasons") or decision.get("reasons") or []
        decided_ms = (heard.at - _moment(heard.document["at"])) * 1000
        detail = f"decided and published {decided_ms:.0f} ms after the evidence came"
        if since is not None:
            detail = f"{heard.at - since:.2f} s after the deed: {reasons[0] if reasons else '?'}"
        self._timeline.seen(heard.device, step, detail, status=status, decision=word)
        self.verdicts[heard.device] = Verdict(
            status=status,
            decision=word,
            vector=heard.document.get("vector", {}),
            reason=str(reasons[0]) if reasons else "",
            decided_ms=decided_ms,
        )
        if (status, word) != wanted:
            raise StoryBrokenError(
                f"{heard.device} should be {' and '.join(wanted)}, but is {status} and {word}: "
                + "; ".join(map(str, reasons))
            )
        if since is not None and heard.at - since > NOTICED_WITHIN_S:
            raise StoryBrokenError(
                f"{heard.device}: noticed only after {heard.at - since:.1f} s, "
                f"promised are {NOTICED_WITHIN_S:.0f} s"
            )


def _says(code: str) -> Callable[[Document], bool]:
    """Return a test for summaries that carry a reason with this code."""
    return lambda document: any(
        str(reason).startswith(f"{code}:") for reason in document.get("reasons", ())
    )


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
