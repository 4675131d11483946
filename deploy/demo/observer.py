"""The demo's eyes: a relying party that watches over MQTT and asks over HTTPS.

It has a certificate that may only read, and a reader's token. What it records is what came over
the wire, never what the demo did.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from deploy.demo.processes import StoryBrokenError

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One retained document as it arrived.

    Attributes:
        device: Topic level 3.
        document: Parsed JSON.
        at: ``time.time()`` of arrival.
    """

    device: str
    document: Document
    at: float


class MqttObserver:
    """Subscribes to every device's status and result summary; remembers the newest of each.

    Args:
        port: The broker's TLS port on localhost.
        ca: PEM file with the broker's CA.
        certificate: PEM file with our certificate.
        key: PEM file with our key.
    """

    def __init__(self, *, port: int, ca: Path, certificate: Path, key: Path) -> None:
        self._changed = threading.Condition()
        self._status: dict[str, Heard] = {}
        self._summary: dict[str, Heard] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="observer", protocol=MQTTv5)
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(str(certificate), str(key))
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("localhost", port)
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def await_status(
        self, device: str, wanted: Callable[[Document], bool], within_s: float
    ) -> Heard:
        """Wait for a device's own status document that ``wanted`` accepts."""
        return self._await(self._status, device, wanted, within_s, "status document")

    def await_summary(
        self, device: str, wanted: Callable[[Document], bool], within_s: float
    ) -> Heard:
        """Wait for a verifier's summary about a device that ``wanted`` accepts."""
        return self._await(self._summary, device, wanted, within_s, "attestation result")

    def _await(
        self,
        heard: dict[str, Heard],
        device: str,
        wanted: Callable[[Document], bool],
        within_s: float,
        what: str,
    ) -> Heard:
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                newest = heard.get(device)
                if newest is not None and wanted(newest.document):
                    return newest
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    last = "nothing" if newest is None else json.dumps(newest.document)[:400]
                    raise StoryBrokenError(
                        f"MQTT showed no such {what} of {device} within {within_s:.0f} s; "
                        f"last heard: {last}"
                    )

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not reason.is_failure:
            client.subscribe([("att/v1/+/status", 1), ("att/v1/+/result/summary", 1)])

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        at = time.time()
        levels = message.topic.split("/")
        document = json.loads(message.payload) if message.payload else {}
        heard = self._status if levels[-1] == "status" else self._summary
        with self._changed:
            heard[levels[2]] = Heard(device=levels[2], document=document, at=at)
            self._changed.notify_all()


class HttpReader:
    """Asks the verifier's HTTPS interface with a reader's token.

    Args:
        port: The verifier's port on localhost.
        ca: PEM file with the CA of its certificate.
        token: The bearer token.
    """

    def __init__(self, *, port: int, ca: Path, token: str) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> Document:
        """Return the JSON document at ``path``.

        Raises:
            StoryBrokenError: If the verifier does not answer with 200.
        """
        connection = http.client.HTTPSConnection(
            "localhost", self._port, timeout=5, context=self._context
        )
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            body = response.read()
        except OSError as error:
            raise StoryBrokenError(f"the verifier does not answer GET {path}: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise StoryBrokenError(f"GET {path} gave {response.status}: {body[:300]!r}")
        document: Document = json.loads(body)
        return document
