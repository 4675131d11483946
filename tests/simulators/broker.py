"""A real mosquitto with TLS and client certificates, for as long as a test needs it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from tests.simulators.mosquitto import MosquittoProcess
from tests.simulators.verifier_simulator import Authority

ACL = """
pattern write att/v1/%u/status
user service.verifier
topic readwrite att/v1/#
"""


class Mosquitto(MosquittoProcess):
    """A broker for client certificates of ``authority`` only."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.authority = authority
        self.ca_file = folder / "broker-ca.pem"
        self.ca_file.write_bytes(authority.pem)
        certificate, key = authority.server_files(folder)
        super().__init__(folder, clients=self.ca_file, certificate=certificate, key=key, access=ACL)

    def watcher(self) -> Watcher:
        """Return a client that sees everything, as the verifier would."""
        return Watcher(self)


class Watcher:
    """Subscribes to everything below ``att/v1`` and keeps it."""

    def __init__(self, broker: Mosquitto) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = broker.authority.issue("service.verifier", key.public_key(), timedelta(days=1))
        file = broker.folder / "watcher.pem"
        file.write_bytes(
            leaf.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        context = ssl.create_default_context(cafile=str(broker.ca_file))
        context.load_cert_chain(file)
        self.seen: list[tuple[str, Any]] = []
        self.retained: list[bool] = []
        self._arrived = threading.Condition()
        self._client = Client(CallbackAPIVersion.VERSION2, "watcher", protocol=MQTTv5)
        self._client.tls_set_context(context)
        self._client.on_message = self._keep
        self._client.on_connect = lambda client, *_: client.subscribe("att/v1/#", qos=1)
        self._client.connect("localhost", broker.port)
        self._client.loop_start()

    def _keep(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        with self._arrived:
            self.seen.append((message.topic, json.loads(message.payload)))
            self.retained.append(message.retain)
            self._arrived.notify_all()

    def wait_for(self, state: str, *, within_s: float = 10, **fields: object) -> dict[str, Any]:
        """Return the first (not yet returned) document with this state and these fields."""
        until = time.monotonic() + within_s
        with self._arrived:
            while True:
                for index, (_, document) in enumerate(self.seen):
                    if document.get("state") == state and all(
                        document.get(name) == value for name, value in fields.items()
                    ):
                        del self.seen[: index + 1]
                        return dict(document)
                left = until - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    pytest.fail(f"no {state!r} {fields} among {self.seen}")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
