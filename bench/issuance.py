"""Issuance: everything from the request's bytes to the certificate on disk, without TLS.

The use case is called as the HTTPS door calls it, from several threads, over a store that syncs
each commit. What a device does is done beforehand.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attestation.wire.enrolment_codec import encode_enrolment
from bench.measure import Bench, Line, Unable, held_to
from device_agent.ports import KeyRole
from tests.simulators.postgres import Postgres
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import VerifierSite
from verifier.errors import ServiceError
from verifier.main import Verifier

DEVICES: Final = 600
THREADS: Final = 8
BUDGET_PER_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    message: bytes
    presented: bytes


def sqlite() -> Iterator[Line]:
    """Issue on SQLite, WAL with full synchronisation."""
    with _folder() as folder:
        rate = _issue(folder, "")
    yield held_to("issuances_per_s", rate, "1/s", BUDGET_PER_S, "≥")


def postgresql() -> Iterator[Line]:
    """Issue on a PostgreSQL of its own, fsync on."""
    with _folder() as folder:
        cluster = Postgres(folder / "pg", durable=True)
        try:
            cluster.start()
        except (AssertionError, OSError) as error:
            raise Unable(f"PostgreSQL: {error}") from error
        try:
            rate = _issue(folder, cluster.new_database())
        finally:
            cluster.stop()
    yield held_to("issuances_per_s_postgresql", rate, "1/s", BUDGET_PER_S, "≥")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the user that runs PostgreSQL must get through
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()


def _issue(folder: Path, url: str) -> float:
    site = VerifierSite(folder / "site", SoftManufacturer(), store=url)
    verifier = Verifier(site.settings)
    try:
        return _rate(verifier, _requests(site, verifier))
    finally:
        verifier.stop()


def _requests(site: VerifierSite, verifier: Verifier) -> list[_Request]:
    """Make devices, and what each sends."""
    made = []
    for number in range(DEVICES):
        device = site.device(f"BENCH-{number:05d}")
        presented = device.tpm.certificates[KeyRole.IDEVID]
        challenge = verifier.services.challenges.for_enrolment(presented, datetime.now(UTC))
        message = encode_enrolment(device.enrolment_request(challenge))
        made.append(_Request(message=message, presented=presented))
    return made


def _rate(verifier: Verifier, requests: Sequence[_Request]) -> float:
    """Return certificates per second; every one must be issued."""

    def enrol(request: _Request) -> None:
        try:
            verifier.services.enrol.enrol(request.message, request.presented, datetime.now(UTC))
        except ServiceError as error:
            raise RuntimeError(f"{error.code}: {error.reason}") from error

    with ThreadPoolExecutor(THREADS) as pool:
        began = time.perf_counter()
        for done in [pool.submit(enrol, request) for request in requests]:
            done.result()
        return len(requests) / (time.perf_counter() - began)


BENCHES = (
    Bench(names=("issuances_per_s",), run=sqlite),
    Bench(names=("issuances_per_s_postgresql",), run=postgresql),
)
