"""The outermost layer: request id, rate limit, body cap, security headers, and problems.

Every answer passes here, so that none lacks the headers and no fault of ours shows its inside.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from starlette.types import ASGIApp

from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from verifier.api.agent_routes import AGENTS_PATH
from verifier.api.client_certificate import FINGERPRINT_KEY
from verifier.api.est_routes import is_est_enrolment
from verifier.api.evidence import EVIDENCE_PATH, EvidenceDoor
from verifier.api.limits import (
    BigBodies,
    BodyTooLarge,
    CappedBody,
    Message,
    NoPlace,
    Receive,
    Scope,
    Send,
    check_length,
    drain,
    read_body,
)
from verifier.api.problems import Problem, Refusals, internal_problem, wants_text
from verifier.errors import NotAuthenticated, RateLimited, ServiceError
from verifier.services.rate import RateLimiter
from verifier.settings import LimitSettings
from verifier.telemetry import Logger, Metrics

SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
)
"""On every answer; a route that sets one itself (``cache-control``) wins."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_DRAIN_BYTES: Final = 1024 * 1024
_DRAIN_SECONDS: Final = 1.0
AT_ONCE: Final = 16
"""Requests with large bodies that one client may have under way: their memory is ours."""

_SMALL_BODY: Final = 64 * 1024
"""Enough for any JSON that a route takes."""

_ENROLMENT_PATH: Final = "/enrol/v1/requests"
_ENROLMENT: Final = "/enrol/"
STRANGERS_AT_ONCE: Final = 4
"""Large bodies under way of all clients without a certificate: addresses cost nothing."""

_STRANGERS: Final = b"strangers"
_STRANGER_BURST_S: Final = 4
_FREELY: Final = nullcontext()
_JSON: Final = (b"content-type", b"application/json")
_EMPTY_PATHS: Final = frozenset({"/health/live", "/health/ready"})


class Door:
    """ASGI application around the application.

    Args:
        app: The routes.
        evidence: The evidence path, taken past the routing.
        limits: What one client may cost.
        boot_id: Part of every request id of this process.
        metrics: Counters.
        log: Where faults go.
        admits_strangers: Whether somebody without a certificate may be enrolled.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        evidence: EvidenceDoor,
        limits: LimitSettings,
        boot_id: str,
        metrics: Metrics,
        log: Logger,
        admits_strangers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app = app
        self._evidence = evidence
        self._limits = limits
        self._limiter = RateLimiter(per_second=limits.requests_per_s, burst=limits.burst)
        self._strangers = RateLimiter(
            per_second=limits.strangers_per_s,
            burst=max(1.0, limits.strangers_per_s * _STRANGER_BURST_S),
        )
        self._admits_strangers = admits_strangers
        self._open: Counter[bytes] = Counter()
        self._big = BigBodies()
        self._boot_id = boot_id
        self._numbers = itertools.count(1)
        self._refusals = Refusals(metrics, log)
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._request_id(scope)
        scope["state"]["request_id"] = request_id
        answer = _Answer(send, request_id, as_text=wants_text(scope))
        large = scope["method"] == "POST" and _is_large(scope["path"])
        limit = self._limits.body_bytes if large else min(self._limits.body_bytes, _SMALL_BODY)
        try:
            if scope["path"] not in _EMPTY_PATHS:
                self._limiter.admit(_client(scope), time.monotonic())
            if _is_stranger(scope) and _is_enrolment(scope["path"]):
                self._strangers.admit(_STRANGERS, time.monotonic())
            with (
                self._under_way(scope) if large else _FREELY,
                self._big.place(_client(scope)) as take_place,
            ):
                check_length(scope, limit)
                body = CappedBody(
                    receive, limit=limit, seconds=self._limits.body_seconds, big=take_place
                )
                if large and scope["path"] == EVIDENCE_PATH:
                    await answer.whole(200, [_JSON], await self._evidence.respond(scope, body))
                else:
                    whole = _Replayed(await read_body(body), receive)
                    await self._app(scope, whole, answer.send)
        except (BodyTooLarge, NoPlace) as error:
            await self._cut_short(answer, self._refusals.problem(error, request_id), receive)
        except (AttestationError, ServiceError) as error:
            await self._refuse(answer, self._refusals.problem(error, request_id))
        except Exception:  # noqa: BLE001 - the last place where a fault can be caught
            self._log.exception("request_failed", request_id=request_id, path=scope["path"])
            await self._refuse(answer, self._refusals.counted(internal_problem(request_id)))

    @contextmanager
    def _under_way(self, scope: Scope) -> Iterator[None]:
        """Count a large request of a client while it lasts.

        Raises:
            NotAuthenticated: If the client has no certificate and this is no enrolment of one that
                needs none: then its body is not even read.
            RateLimited: If it has ``AT_ONCE`` of them already; all without a certificate together
                ``STRANGERS_AT_ONCE``.
        """
        client: bytes | None = scope["state"].get(FINGERPRINT_KEY)
        most = AT_ONCE
        if client is None and _enrols(scope["path"]) and self._admits_strangers():
            client, most = _STRANGERS, STRANGERS_AT_ONCE
        if client is None:
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_REQUIRED,
                "this needs the device's certificate as TLS client certificate",
            )
        if self._open[client] >= most:
            raise RateLimited(1.0)
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    async def _refuse(self, answer: _Answer, problem: Problem) -> None:
        if answer.started:
            return
        body = problem.body(answer.request_id, as_text=answer.as_text)
        headers = problem.all_headers(body, as_text=answer.as_text)
        await answer.whole(problem.status, headers, body)

    async def _cut_short(self, answer: _Answer, problem: Problem, receive: Receive) -> None:
        """Answer before the body is read, then let the client finish its sentence, boundedly."""
        if answer.started:
            return
        body = problem.body(answer.request_id, as_text=answer.as_text)
        headers = problem.all_headers(body, as_text=answer.as_text)
        headers.append((b"connection", b"close"))
        await answer.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await answer.send({"type": "http.response.body", "body": body, "more_body": True})
        await drain(receive, limit=_DRAIN_BYTES, seconds=_DRAIN_SECONDS)
        await answer.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _request_id(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                text: str = value.decode("ascii")
                return text
        return f"{self._boot_id}-{next(self._numbers):x}"


def _is_large(path: str) -> bool:
    return path in (EVIDENCE_PATH, AGENTS_PATH) or _enrols(path)


def _is_enrolment(path: str) -> bool:
    return path.startswith(_ENROLMENT) or is_est_enrolment(path)


def _enrols(path: str) -> bool:
    return path == _ENROLMENT_PATH or is_est_enrolment(path)


class _Replayed:
    """A ``receive`` that gives a body that was read already, then the client's going away."""

    __slots__ = ("_body", "_receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """Adds our headers to whatever is answered, and knows whether anything was."""

    __slots__ = ("_send", "as_text", "request_id", "started")

    def __init__(self, send: Send, request_id: str, *, as_text: bool) -> None:
        self._send = send
        self.request_id = request_id
        self.as_text = as_text
        self.started = False

    async def send(self, message: Message) -> None:
        """Pass a message on, with headers."""
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", ()))
            present = {name for name, _ in headers}
            headers += [item for item in SECURITY_HEADERS if item[0] not in present]
            headers.append((b"x-request-id", self.request_id.encode()))
            message["headers"] = headers
        await self._send(message)

    async def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer."""
        if all(name != b"content-length" for name, _ in headers):
            headers = [*headers, (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _is_stranger(scope: Scope) -> bool:
    return scope["state"].get(FINGERPRINT_KEY) is None


def _client(scope: Scope) -> bytes:
    fingerprint: bytes | None = scope["state"].get(FINGERPRINT_KEY)
    if fingerprint is not None:
        return fingerprint
    client = scope.get("client")
    return str(client[0]).encode() if client else b"unknown"
