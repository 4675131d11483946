"""The demo's site: folders, configuration files and commands of two devices, verifier and broker.

Everything lies below one temporary folder; every port is free and on 127.0.0.1; every key is made
at this moment by the installed commands.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import free_port, run

DEVICES = ("edge-a", "edge-b")
REFERENCE_SET = "rhel8-cloud"
ACCESS_LIST = Path(__file__).parents[1] / "examples" / "mosquitto.acl"
"""The access list that we ship is the one that the demo runs on."""

LOG_ORIGIN = "a server in a cloud that booted RHEL 8 with Secure Boot (tests/data/README.md)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where everything is.

    Attributes:
        root: The demo's folder.
        https_port: The verifier's port.
        mqtt_port: The broker's TLS port.
    """

    root: Path
    https_port: int
    mqtt_port: int

    @classmethod
    def prepare(cls, root: Path) -> Site:
        """Make the folders and choose the ports."""
        for name in ("logs", "keys", "manufacturer", "broker", *DEVICES):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(root=root, https_port=free_port(), mqtt_port=free_port())

    @property
    def keys(self) -> Path:
        """The verifier's key folder."""
        return self.root / "keys"

    @property
    def service_ca(self) -> Path:
        """PEM of the CA of every TLS server here."""
        return self.keys / "service-ca.cert.pem"

    @property
    def verifier_config(self) -> Path:
        """The verifier's settings file."""
        return self.root / "verifier.toml"

    def firmware_log(self, device: str) -> Path:
        """The firmware log that a device's daemon reads."""
        return self.root / device / "binary_bios_measurements"

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a service (verifier, broker, observer)."""
        folder = self.root / "broker"
        return folder / f"{name}.cert.pem", folder / f"{name}.key.pem"

    def verifier(self, *words: str) -> list[str]:
        """A ``verifier`` command line with this site's settings."""
        return [command("verifier"), "--config", str(self.verifier_config), *words]

    def device(self, device: str, *words: str) -> list[str]:
        """A ``device-agent`` command line with this device's settings."""
        config = self.root / device / "device-agent.toml"
        return [command("device-agent"), "--config", str(config), *words]

    def write_verifier_settings(self) -> None:
        """Write verifier.toml."""
        certificate, key = self.certificate("verifier")
        self.verifier_config.write_text(
            f"""[server]
port = {self.https_port}

[store]
url = "sqlite:///{self.root}/verifier.db"

[keys]
directory = "{self.keys}"

[trust]
manufacturer_roots = ["{self.root}/manufacturer/manufacturer-ca.cert.pem"]
trust_domain = "demo.internal"

[policy]
appraisal = "linux-server"

[mqtt]
host = "localhost"
port = {self.mqtt_port}
ca = "{self.service_ca}"
certificate = "{certificate}"
key = "{key}"
"""
        )

    def write_broker_settings(self) -> Path:
        """Write mosquitto's configuration and access list; return the configuration's path."""
        folder = self.root / "broker"
        authorities = folder / "authorities.pem"
        devices = (self.keys / "device-authorities.pem").read_text()
        authorities.write_text(devices + self.service_ca.read_text())
        certificate, key = self.certificate("broker")
        access = folder / "access.acl"
        access.write_text(ACCESS_LIST.read_text())
        access.chmod(0o600)
        config = folder / "mosquitto.conf"
        config.write_text(
            f"""listener {self.mqtt_port} 127.0.0.1
cafile {authorities}
certfile {certificate}
keyfile {key}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {access}
persistence false
user root
log_dest stderr
"""
        )
        return config

    def write_device_settings(self, device: str, tcti: str) -> None:
        """Write one device's device-agent.toml."""
        state = self.root / device / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        (self.root / device / "device-agent.toml").write_text(
            f"""[tpm]
tcti = "{tcti}"

[verifier]
url = "https://localhost:{self.https_port}"
ca_file = "{self.service_ca}"

[mqtt]
enabled = true
host = "localhost"
port = {self.mqtt_port}
ca_file = "{self.service_ca}"

[evidence]
firmware_log = "{self.firmware_log(device)}"
interval_min_s = 0.2
interval_max_s = 0.5

[state]
directory = "{state}"

[log]
format = "json"
"""
        )

    def issue_service_certificates(self) -> None:
        """Have the service CA certify the broker, the verifier's MQTT client and the observer."""
        for name in ("broker", "verifier", "observer"):
            certificate, key = self.certificate(name)
            run(
                self.verifier(
                    "keys",
                    "service",
                    name,
                    *(("--hostname", "localhost") if name == "broker" else ()),
                    "--certificate",
                    str(certificate),
                    "--key",
                    str(key),
                )
            )


def command(name: str) -> str:
    """Return the path of an installed command of this environment."""
    return str(Path(sys.executable).parent / name)
