"""The MQTT presence against a real mosquitto, with an LDevID key that only signs digests."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.mqtt.publisher import Broker, BrokerState, MqttPublisher
from device_agent.ports import KeyRole
from device_agent.tpm.tls import use_tpm_key
from device_agent.transport.client import server_context
from tests.simulators.broker import Mosquitto, Watcher
from tests.simulators.soft_device import SoftTpm
from tests.simulators.verifier_simulator import Authority

pytestmark = pytest.mark.mqtt
FACTS = {"boot_id": "b-1", "fw": "test"}


def tls(issuer: Authority, ca_file: Path, name: str, life: timedelta) -> ssl.SSLContext:
    tpm = SoftTpm()
    tpm.create_ldevid()
    key = tpm.keys[KeyRole.LDEVID].private.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    leaf = issuer.issue(name, key, life)
    context = server_context(str(ca_file), "mqtt.ca_file")
    use_tpm_key(
        context,
        certificate_chain_pem=leaf.public_bytes(Encoding.PEM),
        spki_der=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        sign_digest=lambda digest: tpm.sign_digest(KeyRole.LDEVID, digest),
    )
    return context


class Bench:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.broker = Mosquitto(folder, self.authority)
        self.reports: list[tuple[BrokerState, str]] = []
        self.opened: list[MqttPublisher] = []

    def publisher(
        self,
        device: str = "dev-a",
        *,
        issuer: Authority | None = None,
        life: timedelta = timedelta(days=1),
        name: str | None = None,
    ) -> MqttPublisher:
        context = tls(issuer or self.authority, self.broker.ca_file, name or device, life)
        publisher = MqttPublisher(
            broker=Broker(
                host="localhost",
                port=self.broker.port,
                prefix="att/v1",
                keepalive_s=5,
                will_delay_s=1,
            ),
            device=device,
            context=context,
            facts=FACTS,
            report=lambda state, reason: self.reports.append((state, reason)),
        )
        self.opened.append(publisher)
        return publisher

    def until(self, question: Callable[[], bool], *, within_s: float = 10) -> None:
        end = time.monotonic() + within_s
        while not question():
            assert time.monotonic() < end, self.reports
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.broker.start()
    yield bench
    for publisher in bench.opened:
        publisher.close()
    bench.broker.stop()


@pytest.fixture
def watcher(bench: Bench) -> Iterator[Watcher]:
    watcher = bench.broker.watcher()
    yield watcher
    watcher.close()


def test_the_status_document_is_retained(bench: Bench) -> None:
    publisher = bench.publisher()
    publisher.announce("ready", {"seq": 3, "attestation": {"status": "affirming"}})
    bench.until(publisher.connected)
    time.sleep(0.3)

    late = bench.broker.watcher()
    document = late.wait_for("ready")
    late.close()

    assert document == {
        "state": "ready",
        "boot_id": "b-1",
        "fw": "test",
        "seq": 3,
        "attestation": {"status": "affirming"},
    }
    assert late.retained == [True]


def test_leaving_says_disconnected(bench: Bench, watcher: Watcher) -> None:
    publisher = bench.publisher()
    publisher.announce("ready", {"seq": 1})
    watcher.wait_for("ready")

    publisher.close()

    assert watcher.wait_for("disconnected")["seq"] == 1


def test_the_broker_says_lost_when_the_process_is_killed(bench: Bench, watcher: Watcher) -> None:
    child = os.fork()
    if child == 0:
        try:
            bench.publisher("dev-b").announce("ready", {"seq": 1})
            time.sleep(30)
        finally:
            os._exit(0)
    watcher.wait_for("ready")
    begun = time.monotonic()

    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    watcher.wait_for("lost")
    assert 0.5 < time.monotonic() - begun < 5


def test_only_the_newest_status_is_sent_when_the_broker_comes_back(
    bench: Bench, watcher: Watcher
) -> None:
    publisher = bench.publisher()
    publisher.announce("ready", {"seq": 1})
    watcher.wait_for("ready", seq=1)
    watcher.close()
    bench.broker.stop()
    bench.until(lambda: not publisher.connected())

    begun = time.monotonic()
    for seq in range(2, 200):
        publisher.announce("ready", {"seq": seq})
    took_s = time.monotonic() - begun
    bench.broker.start()
    again = bench.broker.watcher()
    again.wait_for("ready", seq=199)
    time.sleep(0.3)
    seen = [document.get("seq") for _, document in again.seen]
    again.close()

    assert took_s < 0.5
    assert set(seen) <= {199}


def test_the_status_is_said_again_after_a_lost_connection(bench: Bench) -> None:
    """The Last Will may have replaced it, or the broker may have forgotten it."""
    publisher = bench.publisher()
    publisher.announce("ready", {"seq": 1})
    bench.until(publisher.connected)
    time.sleep(0.3)
    bench.broker.stop()
    bench.until(lambda: not publisher.connected())

    bench.broker.start()
    late = bench.broker.watcher()

    late.wait_for("ready", seq=1)
    late.close()


def test_a_broker_that_is_down_is_reported_once_per_change(bench: Bench) -> None:
    publisher = bench.publisher()
    bench.until(publisher.connected)
    bench.broker.stop()
    bench.until(lambda: not publisher.connected())
    time.sleep(3.5)
    bench.broker.start()
    bench.until(publisher.connected, within_s=20)

    states = [state for state, _ in bench.reports]
    assert states == [BrokerState.CONNECTED, BrokerState.LOST, BrokerState.CONNECTED]


def test_a_refused_certificate_is_reported(bench: Bench) -> None:
    bench.publisher(issuer=Authority("foreign"))

    bench.until(lambda: bool(bench.reports))

    assert bench.reports[0][0] is BrokerState.REFUSED


def test_writing_another_devices_status_is_reported_as_refused(bench: Bench) -> None:
    publisher = bench.publisher("dev-a", name="dev-b")
    publisher.announce("ready", {"seq": 1})

    bench.until(lambda: bench.reports[-1:] != [] and bench.reports[-1][0] is BrokerState.REFUSED)

    assert "Not authorized" in bench.reports[-1][1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_of_another_authority_gets_nothing(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "broker-ca.pem").write_bytes(Authority("other").pem)
    publisher = bench.publisher()

    bench.until(lambda: bool(bench.reports))

    assert bench.reports[0][0] is BrokerState.LOST
    assert not publisher.connected()
    # paho leaves the socket of a failed handshake to the collector; let it be here.
    publisher.close()
    gc.collect()


def test_closing_without_a_broker_is_quick(bench: Bench) -> None:
    bench.broker.stop()
    publisher = bench.publisher()
    publisher.announce("ready", {})
    time.sleep(0.2)

    begun = time.monotonic()
    publisher.close()

    assert time.monotonic() - begun < 3
