"""The device's retained status document on an MQTT 5 broker, by mutual TLS as the LDevID.

paho's own thread connects and reconnects; nothing here blocks the daemon or raises into it. Only
the newest status matters, so only the newest is kept while the broker is away, and at most one is
ever unacknowledged: an older document can never overtake a newer one.

The broker publishes our Last Will ``{"state":"lost"}`` some seconds after it lost us. That needs
a session that outlives the connection: with a session expiry of 0 the session, and with it the
delay, would end at once (MQTT 5.0, 3.1.3.2.2).
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_QOS: Final = 1
_RECONNECT_MIN_S: Final = 1
_RECONNECT_MAX_S: Final = 60
_CONNECT_TIMEOUT_S: Final = 5.0
_LEAVE_TIMEOUT_S: Final = 2.0
_SESSION_SLACK_S: Final = 10


class BrokerState(StrEnum):
    """What the daemon wants to know about the broker."""

    CONNECTED = "connected"
    LOST = "lost"
    REFUSED = "refused"


BrokerReport = Callable[[BrokerState, str], None]
"""Told of each change, from paho's thread: state and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is and how we behave towards it."""

    host: str
    port: int
    prefix: str
    keepalive_s: int
    will_delay_s: int


class MqttPublisher:
    """Implements :class:`device_agent.ports.Publisher`.

    Args:
        broker: Where and how.
        device: Device id: client id, user name and topic level.
        context: TLS context with the broker's authority and our LDevID.
        facts: What every status document holds besides its state: boot id, firmware.
        report: Told once per change.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        device: str,
        context: ssl.SSLContext,
        facts: Mapping[str, object],
        report: BrokerReport,
    ) -> None:
        self._topic = f"{broker.prefix.strip('/')}/{device}/status"
        self._facts = dict(facts)
        self._detail: dict[str, object] = {}
        self._report = report
        self._reported: BrokerState | None = None
        self._lock = threading.Lock()
        self._newest: bytes | None = None
        self._unsent = False
        self._unacknowledged = False
        self._connected = False
        self._client = self._open(broker, device, context)

    def announce(self, state: str, detail: Mapping[str, object]) -> None:
        """Publish the status document, now or when the broker is back."""
        self._detail = dict(detail)
        payload = self._document(state)
        with self._lock:
            self._newest, self._unsent = payload, True
        self._pump()

    def connected(self) -> bool:
        """Say whether the broker is reached."""
        return self._connected

    def close(self) -> None:
        """Say ``disconnected`` and leave; the broker then drops the Last Will."""
        if self._connected:
            payload = self._document("disconnected")
            last = self._client.publish(self._topic, payload, qos=_QOS, retain=True)
            # If the connection goes in this very moment, the Last Will speaks for us.
            with contextlib.suppress(RuntimeError, ValueError):
                last.wait_for_publish(_LEAVE_TIMEOUT_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _document(self, state: str) -> bytes:
        document = {"state": state, **self._facts, **self._detail}
        return json.dumps(document, separators=(",", ":")).encode()

    def _open(self, broker: Broker, device: str, context: ssl.SSLContext) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=device,
            protocol=MQTTv5,
            reconnect_on_failure=True,
        )
        client.username_pw_set(device)
        client.tls_set_context(context)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.reconnect_delay_set(_RECONNECT_MIN_S, _RECONNECT_MAX_S)
        will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        will.WillDelayInterval = broker.will_delay_s
        client.will_set(self._topic, b'{"state":"lost"}', qos=_QOS, retain=True, properties=will)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = broker.will_delay_s + _SESSION_SLACK_S
        client.connect_async(
            broker.host, broker.port, broker.keepalive_s, clean_start=True, properties=session
        )
        client.loop_start()
        return client

    def _pump(self) -> None:
        """Publish the newest document if it is due.

        Never called with our lock held: paho calls back while it holds its own.
        """
        with self._lock:
            if not (self._connected and self._unsent) or self._unacknowledged:
                return
            payload, self._unsent, self._unacknowledged = self._newest, False, True
        self._client.publish(self._topic, payload, qos=_QOS, retain=True)

    def _tell(self, state: BrokerState, reason: str) -> None:
        if state is not self._reported:
            self._reported = state
            self._report(state, reason)

    def _on_connect(
        self,
        _client: Client,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._tell(BrokerState.REFUSED, f"the broker refuses the connection: {reason}")
            return
        with self._lock:
            self._connected = True
            # The Last Will may have been published meanwhile: say the newest again.
            self._unsent = self._newest is not None
        self._tell(BrokerState.CONNECTED, "connected")
        self._pump()

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:  # noqa: ANN401
        self._connected = False
        self._tell(BrokerState.LOST, "no connection; retrying with growing delays")

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        was_connected, self._connected = self._connected, False
        if was_connected or self._reported is None:
            # Closed before the broker ever said yes is how TLS 1.3 shows a refused certificate.
            words = "connection lost" if was_connected else "closed during the handshake"
            state = BrokerState.LOST if was_connected else BrokerState.REFUSED
            self._tell(state, f"{words}: {reason}")

    def _on_publish(
        self,
        _client: Client,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        _mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._tell(BrokerState.REFUSED, f"the broker refuses our status: {reason}")
        with self._lock:
            self._unacknowledged = False
        self._pump()
