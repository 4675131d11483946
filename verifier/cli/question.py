"""One question to a verifier over MQTT 5: request topic, response topic, correlation data."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from verifier.errors import Unavailable
from verifier.feeds.topics import Topics

KEEPALIVE_S: Final = 20
CORRELATION_BYTES: Final = 16
_FAILURES: Final = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach the broker.

    Attributes:
        host: Its name.
        port: Its port.
        ca: PEM with its CA; None takes the system's.
        certificate: Our PEM certificate; its CN is our name at the broker.
        key: Our PEM key.
        prefix: Topic prefix.
        timeout_s: How long an answer may take.
    """

    host: str
    port: int
    ca: Path | None
    certificate: Path | None
    key: Path | None
    prefix: str
    timeout_s: float


class Question:
    """Asks once.

    Args:
        connection: How to reach the broker.
        requester: Our name at the broker: second level of the query topics.
        device: Whom we ask about.
        correlation: 16 fresh random bytes; an answer without them is not ours.
    """

    def __init__(
        self, connection: Connection, requester: str, device: DeviceId, correlation: bytes
    ) -> None:
        self._connection = connection
        self._requester = requester
        self._correlation = correlation
        topics = Topics(connection.prefix)
        self._request_topic = topics.request(requester, device)
        self._response_topic = topics.response(requester, correlation.hex()[:CORRELATION_BYTES])
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._trouble = ""

    def ask(self) -> bytes | None:
        """Return the answer's payload; None if nobody answers in time.

        Raises:
            Unavailable: If the broker cannot be reached or refuses us.
        """
        asked = self._connection
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        try:
            client.tls_set(
                ca_certs=str(asked.ca) if asked.ca else None,
                certfile=str(asked.certificate) if asked.certificate else None,
                keyfile=str(asked.key) if asked.key else None,
            )
            client.connect(asked.host, asked.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise Unavailable(
                RefusalCode.BROKER_UNREACHABLE, f"{asked.host}:{asked.port}: {error}"
            ) from error
        client.loop_start()
        try:
            return self._answers.get(timeout=asked.timeout_s)
        except queue.Empty as error:
            if self._trouble:
                raise Unavailable(RefusalCode.BROKER_UNREACHABLE, self._trouble) from error
            return None
        finally:
            client.disconnect()
            client.loop_stop()

    def _on_connect(
        self, client: paho.Client, _user: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        if reason.is_failure:
            self._trouble = f"the broker refuses us: {reason}"
        else:
            client.subscribe(self._response_topic, qos=1)

    def _on_subscribe(self, client: paho.Client, *_: object) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = self._response_topic
        properties.CorrelationData = self._correlation
        properties.MessageExpiryInterval = max(1, int(self._connection.timeout_s))
        client.publish(self._request_topic, b"", qos=1, properties=properties)

    def _on_publish(
        self, _client: paho.Client, _user: object, _mid: int, reason: ReasonCode, _more: object
    ) -> None:
        if int(reason.value) >= _FAILURES:
            self._trouble = f"the broker refuses the query as {self._requester!r}: {reason}"

    def _on_message(self, _client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        if getattr(message.properties, "CorrelationData", b"") == self._correlation:
            self._answers.put(bytes(message.payload))
