"""Errors to RFC 9457 problem details: a stable ``code``, words for people, nothing of our inside.

Whose fault it is decides the status: input that is malformed is 400, 413 or 422; a proof that does
not hold where one is needed to pass (enrolment) is 403; anything unforeseen is 500 with an id that
the log has too. A broken verifier is never an attestation result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from attestation.errors import (
    AttestationError,
    LimitExceeded,
    Unsupported,
    VerificationError,
)
from attestation.refusals import RefusalCode
from attestation.wire.media_types import PROBLEM
from verifier.api.limits import Scope
from verifier.errors import (
    Conflict,
    NotAuthenticated,
    NotAuthorised,
    NotFound,
    RateLimited,
    RequestRefused,
    ServiceError,
    SettingsInvalid,
    Unavailable,
)
from verifier.issuance.enrolment_policy import ProofsMissing
from verifier.telemetry import Logger, Metrics

TITLES: Final = {
    400: "Request not understood",
    401: "Who are you?",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request took too long",
    409: "State has moved on",
    413: "Request too large",
    415: "Wrong media type",
    422: "Not supported",
    429: "Too many requests",
    500: "Verifier fault",
    501: "Not offered",
    503: "Try again later",
}

_TEXT: Final = b"text/plain; charset=utf-8"

_BY_CODE: Final = {
    RefusalCode.LOG_UNKNOWN: 409,
    RefusalCode.IMA_OFFSET_UNKNOWN: 409,
    RefusalCode.MEDIA_TYPE_WRONG: 415,
    RefusalCode.TOO_LARGE: 413,
    RefusalCode.DEVICE_ID_TAKEN: 409,
    RefusalCode.EST_LABEL_UNKNOWN: 404,
    RefusalCode.EST_SERVERKEYGEN_REFUSED: 501,
    RefusalCode.EST_FULLCMC_UNSUPPORTED: 501,
    RefusalCode.NONCE_LENGTH_UNSUPPORTED: 503,
}

_BY_CLASS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (NotAuthenticated, 401),
    (NotAuthorised, 403),
    (NotFound, 404),
    (Conflict, 409),
    (RateLimited, 429),
    (RequestRefused, 400),
    (Unavailable, 503),
    (LimitExceeded, 413),
    (Unsupported, 422),
    (VerificationError, 403),
    (AttestationError, 400),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem answer.

    Attributes:
        status: HTTP status.
        code: Stable code.
        detail: Words for a person.
        headers: Further headers (lower case).
        missing: What was not shown, by name.
    """

    status: int
    code: str
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    missing: tuple[str, ...] = ()

    def body(self, request_id: str, *, as_text: bool = False) -> bytes:
        """Return the JSON document; or code and words as a line of text."""
        if as_text:
            return f"{self.code}: {self.detail}\n".encode()
        return json.dumps(
            {
                "type": f"/problems/{self.code}",
                "title": TITLES.get(self.status, "Refused"),
                "status": self.status,
                "code": self.code,
                "detail": self.detail,
                "instance": f"urn:request:{request_id}",
                **({"missing": self.missing} if self.missing else {}),
            },
            ensure_ascii=False,
        ).encode()

    def all_headers(self, body: bytes, *, as_text: bool = False) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer with this body."""
        return [
            (b"content-type", _TEXT if as_text else PROBLEM.encode()),
            (b"content-length", str(len(body)).encode()),
            *self.headers,
        ]


def wants_text(scope: Scope) -> bool:
    """Say whether a client takes words only: there are EST clients that print an error's body."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").lower()
    return b"text/plain" in accepted and b"json" not in accepted and b"*/*" not in accepted


def problem_of(error: AttestationError | ServiceError) -> Problem:
    """Return the problem that an error of ours is."""
    status = _BY_CODE.get(error.code)
    if status is None:
        status = next((number for kind, number in _BY_CLASS if isinstance(error, kind)), 500)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, RateLimited):
        headers = ((b"retry-after", str(max(1, round(error.retry_after_s + 0.5))).encode()),)
    elif isinstance(error, Unavailable):
        headers = ((b"retry-after", b"2"),)
    elif isinstance(error, NotAuthenticated):
        headers = ((b"www-authenticate", b'Bearer realm="verifier"'),)
    detail = error.outward if isinstance(error, ServiceError) else error.reason
    missing = error.missing if isinstance(error, ProofsMissing) else ()
    return Problem(
        status=status, code=error.code.value, detail=detail, headers=headers, missing=missing
    )


class Refusals:
    """Every refusal is counted; those that somebody should know of are logged.

    Args:
        metrics: Counters.
        log: Where troubles of ours and failed proofs of devices go.
    """

    def __init__(self, metrics: Metrics, log: Logger) -> None:
        self._metrics = metrics
        self._log = log

    def counted(self, problem: Problem) -> Problem:
        """Count a problem that is about to be answered, and return it."""
        self._metrics.refusals.labels(problem.code).inc()
        return problem

    def problem(self, error: AttestationError | ServiceError, request_id: str) -> Problem:
        """Return an error's problem, counted, and logged if it is news."""
        code = error.code.value
        if isinstance(error, Unavailable | SettingsInvalid):
            self._log.warning(
                "request_unserved", code=code, reason=error.reason, request_id=request_id
            )
        elif isinstance(error, VerificationError):
            self._log.info("proof_refused", code=code, reason=error.reason, request_id=request_id)
        return self.counted(problem_of(error))


def internal_problem(request_id: str) -> Problem:
    """Return what a fault of our own looks like from outside."""
    return Problem(
        status=500,
        code=RefusalCode.INTERNAL_ERROR.value,
        detail=f"the verifier failed; nothing was concluded about any device. Log id {request_id}",
    )
