"""Results over a real mosquitto: retained, expiring, at least once, and queries answered."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from attestation.wire.ear import verify_ear_jwt
from tests.simulators.mosquitto import Identity, Mosquitto, mosquitto
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.services.devices import Devices

__all__ = ["mosquitto"]
pytestmark = pytest.mark.mqtt


class Listener:
    """An MQTT 5 client that keeps what arrives."""

    def __init__(self, broker: Mosquitto, identity: Identity) -> None:
        self.arrived: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.published: queue.Queue[int] = queue.Queue()
        self._subscribed: queue.Queue[int] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.tls_set(str(broker.ca), str(identity.certificate), str(identity.key))
        self.client.on_message = lambda _c, _u, message: self.arrived.put(message)
        self.client.on_subscribe = lambda *_: self._subscribed.put(1)
        self.client.on_publish = lambda _c, _u, _mid, reason, _p: self.published.put(reason.value)
        self.client.connect("localhost", broker.port)
        self.client.loop_start()

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, qos=1)
        self._subscribed.get(timeout=10)

    def next(self, seconds: float = 10) -> paho.MQTTMessage:
        return self.arrived.get(timeout=seconds)

    def ask(self, requester: str, device: str, response: str, payload: bytes = b"") -> int:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = response
        properties.CorrelationData = b"42"
        topic = f"att/v1/query/{requester}/{device}/req"
        self.client.publish(topic, payload, qos=1, properties=properties)
        return self.published.get(timeout=10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def listening(broker: Mosquitto, name: str) -> Iterator[Listener]:
    listener = Listener(broker, broker.identity(name))
    try:
        yield listener
    finally:
        listener.close()


def make_site(tmp_path: Path, broker: Mosquitto, extra: str = "") -> VerifierSite:
    settings = broker.settings(broker.identity("service.verifier")) + extra
    return VerifierSite(tmp_path / "site", SoftManufacturer(), extra=settings)


@pytest.fixture
def site(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[VerifierSite]:
    with make_site(tmp_path, mosquitto) as running:
        yield running


@pytest.fixture
def device(site: VerifierSite) -> SiteDevice:
    made = site.device()
    assert made.enrol().status == 201
    return made


def eventually(seen: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def key_set(site: VerifierSite) -> dict[str, object]:
    return site.client().get("/.well-known/jwks.json").json


def test_result_is_retained_signed_and_expires(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    answer = device.attest()
    eventually(lambda: site.running.store.waiting_count() == 0)

    with listening(mosquitto, "reader") as reader:
        reader.subscribe("att/v1/sn-0001/result")
        message = reader.next()

    assert message.retain
    assert message.payload.decode() == answer.json["result"]
    assert message.properties.ContentType == "application/eat-jwt"
    assert 500 < message.properties.MessageExpiryInterval <= 600
    ear = verify_ear_jwt(message.payload.decode(), key_set(site), at=datetime.now(UTC))
    assert set(ear.submods) == {"sn-0001"}


def test_summary_says_status_and_decision_in_words(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    with listening(mosquitto, "reader") as reader:
        reader.subscribe("att/v1/+/result/summary")
        reader.next()  # of the enrolment
        device.tamper()
        started = time.monotonic()
        device.attest()
        message = reader.next()

    document = json.loads(message.payload)
    assert document["status"] == "contraindicated"
    assert document["allow"] is False
    assert document["reasons"][0].startswith("log-replay-mismatch: PCR 4")
    assert time.monotonic() - started < 2


def test_revocation_takes_the_result_away_and_says_deny(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    eventually(lambda: site.running.store.waiting_count() == 0)
    with listening(mosquitto, "reader") as reader:
        reader.subscribe("att/v1/sn-0001/#")
        for _ in range(2):
            reader.next()
        Devices(site.running.store).revoke("sn-0001", "stolen", datetime.now(UTC))
        seen = {message.topic: message.payload for message in (reader.next(), reader.next())}

    assert seen["att/v1/sn-0001/result"] == b""
    summary = json.loads(seen["att/v1/sn-0001/result/summary"])
    assert summary["allow"] is False
    assert summary["reasons"][0] == "device-revoked: stolen"


def test_results_of_one_device_arrive_in_order(device: SiteDevice, mosquitto: Mosquitto) -> None:
    with listening(mosquitto, "reader") as reader:
        reader.subscribe("att/v1/sn-0001/result/summary")
        for _ in range(10):
            assert device.attest().status == 200
        numbers: list[int] = []
        while not numbers or numbers[-1] < 11:
            numbers.append(json.loads(reader.next().payload)["seq"])

    assert numbers == sorted(numbers)


def test_results_wait_for_a_broker_that_is_down(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    eventually(lambda: site.running.store.waiting_count() == 0)
    mosquitto.stop()
    answers = [device.attest() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert site.running.store.waiting_count() == 3

    mosquitto.start()

    eventually(lambda: site.running.store.waiting_count() == 0, 40)
    with listening(mosquitto, "reader") as reader:
        reader.subscribe("att/v1/sn-0001/result")
        assert reader.next().payload.decode() == answers[-1].json["result"]


def test_query_is_answered_with_a_signed_result_and_its_correlation(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    device.attest()
    with listening(mosquitto, "dashboard") as dashboard:
        dashboard.subscribe("att/v1/query/dashboard/res/#")
        dashboard.ask("dashboard", "sn-0001", "att/v1/query/dashboard/res/1")
        message = dashboard.next()

    document = json.loads(message.payload)
    assert message.properties.CorrelationData == b"42"
    assert document["status"] == "warning"
    verify_ear_jwt(document["ear"], key_set(site), at=datetime.now(UTC))


def test_query_about_an_unknown_device_is_answered_with_its_code(
    site: VerifierSite, mosquitto: Mosquitto
) -> None:
    assert site.running.feeds is not None
    assert site.running.feeds.broker.wait_connected(10)
    with listening(mosquitto, "dashboard") as dashboard:
        dashboard.subscribe("att/v1/query/dashboard/res/#")
        dashboard.ask("dashboard", "nobody", "att/v1/query/dashboard/res/1")
        document = json.loads(dashboard.next().payload)

    assert document["error"] == "result-absent"
    assert "device-unknown" in document["detail"]


def test_query_about_a_revoked_device_gives_no_signed_result_out(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    """Its last result would still verify, and may say affirming for minutes."""
    device.attest()
    Devices(site.running.store).revoke(device.device_id, "stolen", datetime.now(UTC))
    with listening(mosquitto, "dashboard") as dashboard:
        dashboard.subscribe("att/v1/query/dashboard/res/#")
        dashboard.ask("dashboard", "sn-0001", "att/v1/query/dashboard/res/1")
        document = json.loads(dashboard.next().payload)

    assert document["error"] == "device-revoked"
    assert "ear" not in document


@pytest.mark.parametrize(
    "payload",
    [b"[" * 4000, b'{"max_age_s": 1' + b"0" * 400 + b"}", b'{"max_age_s": NaN}', b'"x"', b"\xff"],
    ids=["deep", "huge", "nan", "text", "not-utf-8"],
)
def test_query_that_is_not_understood_is_answered_so(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto, payload: bytes
) -> None:
    assert site.running.feeds is not None
    assert site.running.feeds.broker.wait_connected(10)
    with listening(mosquitto, "dashboard") as dashboard:
        dashboard.subscribe("att/v1/query/dashboard/res/#")
        dashboard.ask("dashboard", device.device_id, "att/v1/query/dashboard/res/1", payload)
        document = json.loads(dashboard.next().payload)

    assert document["error"] == "request-invalid"


def test_acknowledged_answer_never_counts_for_a_result(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    """Message numbers are used again: one kept from an answer would vouch for an unsent result."""
    assert site.running.feeds is not None
    broker = site.running.feeds.broker
    assert broker.wait_connected(10)
    with listening(mosquitto, "dashboard") as dashboard:
        dashboard.subscribe("att/v1/query/dashboard/res/#")
        dashboard.ask("dashboard", device.device_id, "att/v1/query/dashboard/res/1")
        dashboard.next()
    eventually(lambda: not broker.unsettled)

    assert not broker.unclaimed


def test_response_topic_of_another_is_never_written(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto
) -> None:
    with (
        listening(mosquitto, "service.verifier") as everything,
        listening(mosquitto, "evil") as evil,
    ):
        everything.subscribe("att/v1/sn-0002/#")
        everything.subscribe("att/v1/query/victim/#")
        evil.ask("evil", "sn-0001", "att/v1/sn-0002/cmd/reboot")
        evil.ask("evil", "sn-0001", "att/v1/query/victim/res/1")
        evil.subscribe("att/v1/query/evil/res/#")
        evil.ask("evil", "sn-0001", "att/v1/query/evil/res/1")
        evil.next()  # the honest query was answered, so the others have been seen

        assert everything.arrived.empty()


def test_broker_refuses_a_query_in_anothers_name(device: SiteDevice, mosquitto: Mosquitto) -> None:
    with listening(mosquitto, "evil") as evil:
        assert evil.ask("dashboard", "sn-0001", "att/v1/query/dashboard/res/1") == 0x87


def test_broker_refuses_a_result_that_a_device_writes_itself(
    device: SiteDevice, mosquitto: Mosquitto
) -> None:
    with listening(mosquitto, "sn-0001") as forger:
        forger.client.publish("att/v1/sn-0001/result", b"forged", qos=1, retain=True)
        assert forger.published.get(timeout=10) == 0x87


def test_queries_of_one_requester_are_limited(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with make_site(tmp_path, mosquitto, "queries_per_s = 1.0\n") as site:
        device = site.device()
        device.enrol()
        with listening(mosquitto, "dashboard") as dashboard:
            dashboard.subscribe("att/v1/query/dashboard/res/#")
            for number in range(20):
                dashboard.ask("dashboard", "sn-0001", f"att/v1/query/dashboard/res/{number}")
            eventually(lambda: _dropped(site) + dashboard.arrived.qsize() >= 20)
            answered = dashboard.arrived.qsize()

    assert 4 <= answered <= 8


def _dropped(site: VerifierSite) -> float:
    value = site.running.metrics.registry.get_sample_value(
        "mqtt_queries_total", {"outcome": "rate-limited"}
    )
    return value or 0.0


@pytest.mark.system
def test_query_command_checks_the_signature_itself(
    site: VerifierSite, device: SiteDevice, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    device.attest()
    site.learn("golden", device)
    time.sleep(0.6)
    assert device.attest().json["status"] == "affirming"
    genuine = tmp_path / "jwks.json"
    genuine.write_text(json.dumps(key_set(site)))
    other = VerifierSite(tmp_path / "other", site.manufacturer)
    with other:
        foreign = tmp_path / "foreign.json"
        foreign.write_text(json.dumps(key_set(other)))
    asker = mosquitto.identity("operator")

    believed = _query(mosquitto, asker, "sn-0001", genuine)
    refused = _query(mosquitto, asker, "sn-0001", foreign)
    unknown = _query(mosquitto, asker, "nobody", genuine)
    device.tamper()
    device.attest()
    fallen = _query(mosquitto, asker, "sn-0001", genuine)

    assert believed.returncode == 0, believed.stderr
    assert json.loads(believed.stdout)["signature"] == "verified"
    assert refused.returncode == 2
    assert refused.stderr.startswith("verifier: result-signature-invalid: ")
    assert unknown.returncode == 2
    assert fallen.returncode == 1
    assert json.loads(fallen.stdout)["status"] == "contraindicated"


@pytest.mark.system
def test_query_command_says_when_nobody_answers(mosquitto: Mosquitto, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_text('{"keys": []}')
    silent = _query(mosquitto, mosquitto.identity("operator"), "sn-0001", keys)

    assert silent.returncode == 4
    assert silent.stderr.startswith("verifier: verifier-unreachable: no answer within")


def _query(
    broker: Mosquitto, asker: Identity, device: str, keys: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "verifier", "query", device, "--json"),
            *("--mqtt", f"mqtts://localhost:{broker.port}", "--ca", str(broker.ca)),
            *("--cert", str(asker.certificate), "--key", str(asker.key)),
            *("--jwks", str(keys), "--timeout", "3"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
