"""One process, many devices: each sends its next evidence as soon as the last was answered."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.fleet import Connection, Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load run did.

    Attributes:
        attestations: Answers that came in the measured time.
        seconds: The measured time.
        latencies_s: From evidence written to answer read, of each of them.
    """

    attestations: int
    seconds: float
    latencies_s: tuple[float, ...]


def drive(
    fleet: Sequence[tuple[Device, Connection]], *, warm_up_s: float, measure_s: float
) -> Load:
    """Keep every device attesting; count only after the warm-up.

    Raises:
        RuntimeError: If an answer is no success, or not affirming.
    """
    by_descriptor = {connection.fileno(): (device, connection) for device, connection in fleet}
    sent: dict[int, float] = {}
    latencies: list[float] = []
    poll = select.epoll()
    for descriptor, (device, connection) in by_descriptor.items():
        poll.register(descriptor, select.EPOLLIN)
        sent[descriptor] = time.perf_counter()
        device.send_evidence(connection)
    begin = time.perf_counter() + warm_up_s
    end = begin + measure_s
    while time.perf_counter() < end:
        for descriptor, _ in poll.poll(1.0):
            device, connection = by_descriptor[descriptor]
            answer = connection.read_some()
            if answer is None:
                continue
            now = time.perf_counter()
            told = device.take_answer(*answer)
            if told["status"] != "affirming":
                raise RuntimeError(f"{device.id} is {told['status']}: {told['reasons']}")
            if begin <= now < end:
                latencies.append(now - sent[descriptor])
            sent[descriptor] = time.perf_counter()
            device.send_evidence(connection)
    poll.close()
    return Load(attestations=len(latencies), seconds=measure_s, latencies_s=tuple(latencies))
