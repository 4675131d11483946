"""The connection to the broker: MQTT 5 over mutual TLS, and results as retained messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from attestation.result import TrustTier
from verifier.errors import SettingsInvalid
from verifier.feeds.topics import Topics
from verifier.ports.outbox import OutboxRow
from verifier.settings import MqttSettings
from verifier.telemetry import Logger

KEEPALIVE_S: Final = 20
RECONNECT_MAX_S: Final = 10
INFLIGHT: Final = 200
ACK_TIMEOUT_S: Final = 10.0
RESULT_TYPE: Final = "application/eat-jwt"
SUMMARY_TYPE: Final = "application/json"
_FAILURES: Final = 0x80

Arrived = Callable[[paho.MQTTMessage], None]


class Broker:
    """One connection that reconnects by itself; one network thread.

    Args:
        settings: [mqtt].
        log: Where connection changes go.
        client_id: MQTT client identifier; unique per replica.
    """

    def __init__(self, settings: MqttSettings, log: Logger, client_id: str) -> None:
        self._settings = settings
        self._log = log
        self._acknowledged = threading.Condition()
        self._waiting: set[int] = set()
        self._early: set[int] = set()
        self._answers: set[int] = set()
        self._refused: dict[int, str] = {}
        self._topics: dict[str, Arrived] = {}
        self._connected = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        try:
            client.tls_set(
                ca_certs=settings.ca or None,
                certfile=settings.certificate or None,
                keyfile=settings.key or None,
            )
        except (OSError, ValueError) as error:
            raise SettingsInvalid(
                f"[mqtt] ca, certificate or key cannot be used: {error}"
            ) from error
        client.reconnect_delay_set(min_delay=1, max_delay=RECONNECT_MAX_S)
        client.max_inflight_messages_set(INFLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._client = client

    def subscribe(self, topic: str, arrived: Arrived) -> None:
        """Call ``arrived`` for every message; call before :meth:`start`."""
        self._topics[topic] = arrived

    def start(self) -> None:
        """Connect in the background, now or when the broker comes."""
        if self._topics:
            self._client.on_message = self._on_message
        self._client.connect_async(self._settings.host, self._settings.port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        """Whether the broker is reached."""
        return self._connected.is_set()

    def wait_connected(self, seconds: float) -> bool:
        """Wait until the broker is reached, at most ``seconds``."""
        return self._connected.wait(seconds)

    @property
    def unsettled(self) -> int:
        """How many messages wait for the broker's acknowledgement."""
        with self._acknowledged:
            return len(self._waiting) + len(self._answers)

    @property
    def unclaimed(self) -> int:
        """How many acknowledgements wait for :meth:`publish` to say what they are for."""
        with self._acknowledged:
            return len(self._early)

    def publish(self, topic: str, payload: bytes, properties: Properties, *, retain: bool) -> int:
        """Hand a message to the connection, QoS 1; returns its number for :meth:`settle`."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        with self._acknowledged:
            if sent.mid in self._early:
                self._early.discard(sent.mid)
            else:
                self._waiting.add(sent.mid)
        return sent.mid

    def settle(self, numbers: Sequence[int], seconds: float) -> frozenset[int]:
        """Wait until the broker has acknowledged; returns the numbers that it has taken."""
        wanted = set(numbers)
        with self._acknowledged:
            self._acknowledged.wait_for(lambda: not wanted & self._waiting, seconds)
            open_still = wanted & self._waiting
            refused = {number for number in wanted if self._refused.pop(number, None) is not None}
        return frozenset(wanted - open_still - refused)

    def answer(self, topic: str, payload: bytes, properties: Properties) -> None:
        """Publish an answer, QoS 1, not retained; from the network thread, so without waiting."""
        sent = self._client.publish(topic, payload, qos=1, properties=properties)
        with self._acknowledged:
            # Its acknowledgement comes later, on this thread. Numbers are used again: it must not
            # be kept for a result that has not been sent yet.
            self._answers.add(sent.mid)

    def _on_connect(
        self, client: paho.Client, _user: object, _flags: object, reason: ReasonCode, _props: object
    ) -> None:
        if reason.is_failure:
            self._log.error("mqtt_refused", reason=str(reason))
            return
        for topic in self._topics:
            client.subscribe(topic, qos=1)
        self._log.info("mqtt_connected", host=self._settings.host)
        self._connected.set()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _user: object,
        _flags: object,
        reason: ReasonCode,
        _props: object,
    ) -> None:
        self._connected.clear()
        self._log.warning("mqtt_disconnected", reason=str(reason))

    def _on_publish(
        self, _client: paho.Client, _user: object, mid: int, reason: ReasonCode, _props: object
    ) -> None:
        code = int(reason.value)
        with self._acknowledged:
            if mid in self._answers:
                self._answers.discard(mid)
                return
            if code >= _FAILURES:
                self._refused[mid] = str(reason)
                self._log.error("mqtt_publish_refused", reason=str(reason))
            if mid in self._waiting:
                self._waiting.discard(mid)
                self._acknowledged.notify_all()
            else:
                self._early.add(mid)

    def _on_message(self, _client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        try:
            for arrived in self._topics.values():
                arrived(message)
        except Exception:  # noqa: BLE001 - the network thread must live on
            self._log.exception("mqtt_message_failed", topic=message.topic[:120])


class ResultSink:
    """Tells results over MQTT: the ``EventSink`` port.

    Args:
        broker: The connection.
        topics: The layout.
    """

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self._broker = broker
        self._topics = topics

    def deliver(self, rows: Sequence[OutboxRow], at: datetime) -> Sequence[int]:
        """Publish rows in order; return the numbers of those the broker has acknowledged.

        A row counts only when both of its messages are acknowledged, and nothing after a row of
        the same device that was not.
        """
        sent: list[tuple[OutboxRow, tuple[int, int]]] = [
            (row, self._publish(row, at)) for row in rows
        ]
        numbers = [number for _, pair in sent for number in pair]
        taken = self._broker.settle(numbers, ACK_TIMEOUT_S)
        stuck: set[str] = set()
        told: list[int] = []
        for row, pair in sent:
            device = row.result.device
            if device not in stuck and all(number in taken for number in pair):
                told.append(row.number)
            else:
                stuck.add(device)
        return told

    def _publish(self, row: OutboxRow, at: datetime) -> tuple[int, int]:
        result = row.result
        remaining = int((result.expires_at - at).total_seconds())
        gone = remaining < 1
        ear = b"" if gone or row.revoked_reason is not None else result.ear.encode()
        summary = b"" if gone and row.revoked_reason is None else summary_of(row)
        expiry = None if gone or row.revoked_reason is not None else remaining
        first = self._broker.publish(
            self._topics.result(result.device), ear, _properties(RESULT_TYPE, expiry), retain=True
        )
        second = self._broker.publish(
            self._topics.summary(result.device),
            summary,
            _properties(SUMMARY_TYPE, expiry),
            retain=True,
        )
        return first, second


def summary_of(row: OutboxRow) -> bytes:
    """Return a result in words, JSON; a revoked device's is always a denial."""
    result = row.result
    revoked = row.revoked_reason is not None
    reasons = list(result.reasons)
    if revoked:
        reasons = [f"device-revoked: {row.revoked_reason}", *reasons]
    document = {
        "device": result.device,
        "status": TrustTier(result.status).label,
        "allow": result.allow and not revoked,
        "decision": "allow" if result.allow and not revoked else "deny",
        "vector": dict(result.vector),
        "reasons": reasons,
        "at": _moment(result.at),
        "expires_at": _moment(result.expires_at),
        "seq": result.seq,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _properties(content_type: str, expiry_s: int | None) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type
    properties.PayloadFormatIndicator = 1
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    return properties
