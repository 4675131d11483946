"""POST /attest/v1/evidence: the path that every device takes every minute; kept lean.

Small messages are judged on the event loop, which is quicker than any thread; large ones (a whole
firmware log, a whole IMA list) go to a thread, and of the big ones only a few at once. The answer
is given after the transaction that holds the result.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Final

from starlette.concurrency import run_in_threadpool

from attestation.errors import MalformedInput
from attestation.limits import MAX_EVIDENCE_BYTES
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.media_types import EVIDENCE
from verifier.api.access import ACCESS, Guard
from verifier.api.client_certificate import STATE_KEY
from verifier.api.limits import BIG_BYTES, Receive, Scope, check_length, read_body
from verifier.errors import RequestRefused
from verifier.ports import DeviceRecord
from verifier.services.attest import MAX_ATTEMPTS, Draft, LogNotInMemory, moved_on
from verifier.services.suite import Services
from verifier.telemetry import Logger, Metrics

EVIDENCE_PATH: Final = "/attest/v1/evidence"

SMALL_BYTES: Final = 16 * 1024
"""Messages up to this size are judged where they arrive, if their log need not be read."""

_AT_ONCE: Final = nullcontext()

BIG_JUDGED_AT_ONCE: Final = 2
"""A list of 100 000 entries keeps a thread busy for a second; others shall be judged meanwhile."""


class EvidenceDoor:
    """Takes evidence.

    Args:
        services: The use cases.
        guard: Who may.
        metrics: Counters.
        log: One line per judged evidence that is not affirming, or whose status is new.
    """

    def __init__(self, *, services: Services, guard: Guard, metrics: Metrics, log: Logger) -> None:
        self._services = services
        self._guard = guard
        self._metrics = metrics
        self._log = log
        self._access = ACCESS["POST", EVIDENCE_PATH]
        self._big = asyncio.Semaphore(BIG_JUDGED_AT_ONCE)

    async def respond(self, scope: Scope, receive: Receive) -> bytes:
        """Return the JSON answer (always 200); refusals leave as exceptions.

        Raises:
            ServiceError: If the client may not, or the store cannot.
            InputError: If the evidence is malformed.
        """
        now = self._services.clock.now
        certificate: bytes | None = scope["state"].get(STATE_KEY)
        if certificate is None or self._services.cache.in_memory(certificate):
            caller = self._guard.admit(self._access, scope, now())
        else:
            caller = await run_in_threadpool(self._guard.admit, self._access, scope, now())
        require_media_type(scope, EVIDENCE)
        check_length(scope, MAX_EVIDENCE_BYTES)
        message = await read_body(receive)
        if caller.device is None or certificate is None:
            raise RequestRefused(RefusalCode.CLIENT_CERTIFICATE_REQUIRED, "no client certificate")
        return await self._attest(caller.device, certificate, message)

    async def _attest(self, record: DeviceRecord, certificate: bytes, message: bytes) -> bytes:
        services, now = self._services, self._services.clock.now
        for _ in range(MAX_ATTEMPTS):
            started = time.perf_counter()
            draft = await self._judge(record, certificate, message, now())
            judged = time.perf_counter()
            judgement = await asyncio.wrap_future(services.attest.submit(draft))
            if judgement is not None:
                services.attest.settled(draft, judgement)
                self._metrics.appraisal_seconds.observe(judged - started)
                self._metrics.commit_seconds.observe(time.perf_counter() - judged)
                status = TrustTier(judgement.result.status)
                self._metrics.evidence.labels(status.label).inc()
                if status is not TrustTier.AFFIRMING:
                    self._log.info(
                        "evidence_appraised",
                        device=record.device,
                        seq=judgement.result.seq,
                        status=status.label,
                        allow=judgement.result.allow,
                        reasons=judgement.result.reasons[:4],
                    )
                answer = services.attest.answer(draft, judgement, now())
                return json.dumps(answer, separators=(",", ":")).encode()
            record = await run_in_threadpool(self._reload, certificate, now())
        raise moved_on(record)

    async def _judge(
        self, record: DeviceRecord, certificate: bytes, message: bytes, at: datetime
    ) -> Draft:
        if len(message) <= SMALL_BYTES:
            with suppress(LogNotInMemory):  # A digest of 32 bytes may name megabytes to replay.
                try:
                    return self._services.attest.judge(record, message, at, from_memory=True)
                except MalformedInput as error:
                    if error.code is not RefusalCode.IMA_OFFSET_UNKNOWN:
                        raise
        judge = self._services.attest.judge_anew
        async with self._big if len(message) > BIG_BYTES else _AT_ONCE:
            return await run_in_threadpool(judge, record, certificate, message, at)

    def _reload(self, certificate: bytes, at: datetime) -> DeviceRecord:
        return self._services.cache.by_certificate(certificate, at, fresh=True, attesting=True)


def require_media_type(scope: Scope, wanted: str) -> None:
    """Refuse a body that does not say it is what we take.

    Raises:
        RequestRefused: ``media-type-wrong`` (HTTP 415).
    """
    for name, value in scope["headers"]:
        if name == b"content-type":
            seen = value.decode("latin-1").partition(";")[0].strip().lower()
            if seen == wanted:
                return
            raise RequestRefused(
                RefusalCode.MEDIA_TYPE_WRONG, f"Content-Type is {seen[:80]!r}, wanted {wanted}"
            )
    raise RequestRefused(RefusalCode.MEDIA_TYPE_WRONG, f"Content-Type is missing, wanted {wanted}")
