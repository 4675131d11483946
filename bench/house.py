"""A verifier with its broker as real processes, for measurements; the site is the demo's."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from bench.fleet import Address, Connection, Device
from bench.inputs import machine
from bench.measure import Unable
from deploy.demo.processes import Household, StoryBrokenError, run
from deploy.demo.site import Site
from tests.simulators.soft_manufacturer import SoftManufacturer
from verifier.reference_values.golden import learn
from verifier.reference_values.toml_file import dump_reference_set

_MAKER_ROOT: Final = "maker.cert.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A running verifier and broker.

    Attributes:
        site: Folders, ports and commands.
        household: The processes.
        maker: Whose devices may enrol.
        log: The firmware log of every device; its values are known good.
    """

    site: Site
    household: Household
    maker: SoftManufacturer
    log: bytes

    @property
    def address(self) -> Address:
        """Where the verifier listens."""
        return Address(host="localhost", port=self.site.https_port, ca_file=self.site.service_ca)

    def reader(self) -> Connection:
        """Connect as somebody who may read every device's results and decisions."""
        words = ("token", "create", "bench", "--role", "reader", "--json")
        made = run(self.site.verifier(*words), env=_settings(self.site))
        return Connection(self.address, None, json.loads(made)["token"])

    def fleet(self, count: int) -> list[tuple[Device, Connection]]:
        """Make, enrol and connect devices."""
        folder = self.site.root / "fleet"
        folder.mkdir(exist_ok=True)
        fleet = []
        for number in range(count):
            device = Device(self.maker, number, self.log, folder)
            device.enrol(self.address)
            fleet.append((device, device.connect(self.address)))
        return fleet


@contextmanager
def house(log: bytes) -> Iterator[House]:
    """Start mosquitto and ``verifier serve`` below a temporary folder; stop both at the end.

    Raises:
        Unable: If a program is missing or does not start.
    """
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    household = Household(root)
    try:
        site = Site.prepare(root)
        maker = SoftManufacturer()
        (root / _MAKER_ROOT).write_bytes(maker.root_pem)
        _configure(site, log)
        household.start("broker", ["mosquitto", "-c", str(site.write_broker_settings())])
        household.wait_for_port(site.mqtt_port, name="broker", within_s=10)
        household.start("verifier", site.verifier("serve"), env=_settings(site))
        household.wait_for_port(site.https_port, name="verifier", within_s=20)
        yield House(site=site, household=household, maker=maker, log=log)
        household.check_alive()
    except (StoryBrokenError, FileNotFoundError) as error:
        raise Unable(str(error)) from error
    finally:
        household.stop()
        shutil.rmtree(root, ignore_errors=True)


def _settings(site: Site) -> dict[str, str]:
    """Return what differs from the demo: another maker, and no rate limit for our one address."""
    return {
        "VERIFIER_TRUST_MANUFACTURER_ROOTS": str(site.root / _MAKER_ROOT),
        "VERIFIER_LIMITS_REQUESTS_PER_S": "1000000",
        "VERIFIER_LIMITS_BURST": "1000000",
    }


def _configure(site: Site, log: bytes) -> None:
    site.write_verifier_settings()
    run(site.verifier("init", "--hostname", "localhost"), env=_settings(site))
    for name, host in (("broker", ("--hostname", "localhost")), ("verifier", ())):
        certificate, key = site.certificate(name)
        files = ("--certificate", str(certificate), "--key", str(key))
        run(site.verifier("keys", "service", name, *host, *files), env=_settings(site))
    subject = machine(log)
    known = learn(
        "golden",
        replay(parse_firmware_log(log)),
        subject.tpm.read_pcrs(subject.policy.selections),
        subject.policy.selections,
        datetime.now(UTC),
    )
    path = site.root / "golden.toml"
    path.write_text(dump_reference_set(replace(known, to_review=frozenset())), encoding="utf-8")
    run(site.verifier("reference-values", "import", str(path)), env=_settings(site))
