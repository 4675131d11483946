"""The whole service: HTTPS, store, outbox and broker, as real processes beside the load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from attestation.algorithms import HashAlgorithm
from bench.fleet import Connection, Device
from bench.house import house
from bench.inputs import boot, largest_firmware_log
from bench.load import drive
from bench.measure import MILLISECONDS, Bench, Line, held_to, percentile

DEVICES: Final = 32
BUDGET_PER_S: Final = 1_000.0
BUDGET_P99_MS: Final = 100.0
_CHANGES: Final = 200
_TAMPERED_PCR: Final = 4


def attestations() -> Iterator[Line]:
    """Let a fleet attest as fast as it is answered."""
    with house(largest_firmware_log(trusted=True)) as running:
        load = drive(running.fleet(DEVICES), warm_up_s=3, measure_s=15)
    rate = load.attestations / load.seconds
    yield held_to("http_attestations_per_s", rate, "1/s", BUDGET_PER_S, "≥")
    p99 = percentile(load.latencies_s, 99) * MILLISECONDS
    yield Line(name="http_attestation_p99_ms", value=p99, unit="ms", vs=f"{DEVICES} at once")


def evidence_to_decision() -> Iterator[Line]:
    """Tamper with one device and mend it, again and again; time until the decision has changed.

    The clock runs from before the quote is asked of the TPM until ``GET /decisions`` on another
    connection shows the new decision.
    """
    took = []
    with house(largest_firmware_log(trusted=True)) as running:
        ((device, connection),) = running.fleet(1)
        reader = running.reader()
        device.take_answer(*_attest(device, connection))
        for number in range(_CHANGES):
            boot(device.tpm, running.log)
            good = number % 2 == 1
            if not good:
                device.tpm.extend(HashAlgorithm.SHA256, _TAMPERED_PCR, bytes(32))
            device.pcrs_changed()
            took.append(_until_decided(device, connection, reader, allow=good))
            if good:  # Its certificate fell; once well, a device enrols again.
                connection.close()
                device.enrol(running.address)
                connection = device.connect(running.address)
    yield Line(
        name="evidence_to_decision_p50_ms", value=percentile(took, 50) * MILLISECONDS, unit="ms"
    )
    p99 = percentile(took, 99) * MILLISECONDS
    yield held_to("evidence_to_decision_p99_ms", p99, "ms", BUDGET_P99_MS, "≤")


def _attest(device: Device, connection: Connection) -> tuple[int, bytes]:
    device.send_evidence(connection)
    while True:
        if (answer := connection.read_some()) is not None:
            return answer


def _until_decided(
    device: Device, connection: Connection, reader: Connection, *, allow: bool
) -> float:
    began = time.perf_counter()
    device.take_answer(*_attest(device, connection))
    while True:
        decision = reader.ask("GET", f"/decisions/v1/devices/{device.id}")
        if decision["allow"] is allow:
            return time.perf_counter() - began


BENCHES = (
    Bench(names=("http_attestations_per_s", "http_attestation_p99_ms"), run=attestations),
    Bench(
        names=("evidence_to_decision_p50_ms", "evidence_to_decision_p99_ms"),
        run=evidence_to_decision,
    ),
)
