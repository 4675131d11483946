"""Issuance: everything from the request's bytes to the certificate on disk, without TLS.

The use case is called as the HTTPS door calls it, from as many threads as the door has, over a
store that syncs each commit: by one verifier, and by two replicas over one store and one set of
keys, since one Python process keeps one core busy. What a device does is done beforehand; the
fleet's known-good values were learnt from its first device.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

from attestation.identity import device_id
from attestation.wire.enrolment_codec import encode_enrolment
from bench.measure import Bench, Line, Unable, held_to
from device_agent.ports import KeyRole
from tests.simulators.postgres import Postgres
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import VerifierSite
from verifier.main import Verifier
from verifier.services.reference_values import ReferenceValues
from verifier.settings import Settings

DEVICES: Final = 600
THREADS: Final = 40
REPLICAS: Final = 2
WARM_UP: Final = 100
BUDGET_PER_S: Final = 300.0
_SPAWN: Final = multiprocessing.get_context("spawn")
_START_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    message: bytes
    presented: bytes


def sqlite() -> Iterator[Line]:
    """Issue on SQLite, WAL with full synchronisation."""
    yield from _figures("", "")


def postgresql() -> Iterator[Line]:
    """Issue on a PostgreSQL of its own, fsync on."""
    with _folder() as folder:
        cluster = Postgres(folder / "pg", durable=True)
        try:
            cluster.start()
        except (AssertionError, OSError) as error:
            raise Unable(f"PostgreSQL: {error}") from error
        try:
            yield from _figures("_postgresql", cluster.new_database())
        finally:
            cluster.stop()


def _figures(suffix: str, url: str) -> Iterator[Line]:
    with _folder() as folder:
        site = VerifierSite(folder / "site", SoftManufacturer(), store=url)
        _learn(site)
        rate = _rate(site.settings, [_requests(site, "ONE")])
        yield Line(name=f"issuances_per_s_one_replica{suffix}", value=rate, unit="1/s")
        batches = [_requests(site, f"R{number}") for number in range(REPLICAS)]
        rate = _rate(site.settings, batches)
    yield held_to(f"issuances_per_s{suffix}", rate, "1/s", BUDGET_PER_S, "≥")


@contextmanager
def _folder() -> Iterator[Path]:
    name = tempfile.mkdtemp(prefix="bench-")
    Path(name).chmod(0o755)  # the user that runs PostgreSQL must get through
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def _learn(site: VerifierSite) -> None:
    """Learn the fleet's known-good values from its first device."""
    verifier = Verifier(site.settings)
    try:
        first = _request(site, verifier, "GOLDEN-1")
        now = datetime.now(UTC)
        answer = verifier.services.enrol.enrol(first.message, first.presented, now)
        values = ReferenceValues(verifier.store, verifier.policy)
        values.learn_device(device_id(str(answer["device_id"])), "known good", now)
    finally:
        verifier.stop()


def _requests(site: VerifierSite, series: str) -> list[_Request]:
    """Make devices, and what each sends."""
    verifier = Verifier(site.settings)
    try:
        names = (f"{series}-{number:05d}" for number in range(DEVICES + WARM_UP))
        return [_request(site, verifier, name) for name in names]
    finally:
        verifier.stop()


def _request(site: VerifierSite, verifier: Verifier, serial: str) -> _Request:
    device = site.device(serial)
    presented = device.tpm.certificates[KeyRole.IDEVID]
    challenge = verifier.services.challenges.for_enrolment(presented, datetime.now(UTC))
    message = encode_enrolment(device.enrolment_request(challenge))
    return _Request(message=message, presented=presented)


def _rate(settings: Settings, batches: Sequence[Sequence[_Request]]) -> float:
    """Return certificates per second over all replicas; every one must be issued."""
    barrier = _SPAWN.Barrier(len(batches))
    with _SPAWN.Pool(len(batches), _join, (barrier,)) as pool:
        spans = pool.starmap(_replica, [(settings, batch) for batch in batches], chunksize=1)
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return len(batches) * DEVICES / seconds


_start: Barrier | None = None


def _join(barrier: Barrier) -> None:
    """Let a replica's process know the moment that all begin at."""
    global _start  # noqa: PLW0603 - the one way to hand a barrier to a pool's process
    _start = barrier


def _replica(settings: Settings, requests: Sequence[_Request]) -> tuple[float, float]:
    """Be one replica: issue to everybody; return when it began and ended (monotonic)."""
    verifier = Verifier(settings)

    def enrol(request: _Request) -> None:
        verifier.services.enrol.enrol(request.message, request.presented, datetime.now(UTC))

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(enrol, requests[:WARM_UP]))
            if _start is not None:
                _start.wait(_START_S)
            began = time.monotonic()
            list(pool.map(enrol, requests[WARM_UP:]))
            return began, time.monotonic()
    finally:
        verifier.stop()


BENCHES = (
    Bench(names=("issuances_per_s_one_replica", "issuances_per_s"), run=sqlite),
    Bench(
        names=("issuances_per_s_one_replica_postgresql", "issuances_per_s_postgresql"),
        run=postgresql,
    ),
)
