"""Errors of the service: who may not, what is missing, what is busy; each with a stable code.

Tree::

    ServiceError
    ├── RequestRefused        the request itself is wrong (400, 413, 415, 422)
    ├── NotAuthenticated      nobody we know (401)
    ├── NotAuthorised         somebody we know, but not for this (403)
    ├── NotFound              no such device, result or set (404)
    ├── Conflict              true a moment ago, not now (409)
    ├── RateLimited           too often (429)
    ├── Unavailable           store, broker or signer cannot be reached (503)
    └── SettingsInvalid       the configuration is wrong (never an HTTP answer)

Errors of evidence and proofs are ``attestation.errors``; these here are about doors and stores.
"""

from __future__ import annotations

from typing_extensions import override

from attestation.refusals import RefusalCode

_OUTWARD = "the verifier cannot use what it stands on; try again later. Its log says more"


class ServiceError(Exception):
    """The service refuses or cannot.

    Attributes:
        code: Stable machine-readable code.
        reason: What was seen, what was wanted, what to do. Never a nonce, key or secret.
    """

    def __init__(self, code: RefusalCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")

    @property
    def outward(self) -> str:
        """The reason as strangers may read it: nothing of hosts, files and users of ours."""
        return self.reason


class RequestRefused(ServiceError):
    """The request is wrong in itself; sending it again will not help."""


class NotAuthenticated(ServiceError):
    """No credential, or one that we do not know."""


class NotAuthorised(ServiceError):
    """A known party without the right."""


class NotFound(ServiceError):
    """No such device, result, set or token."""


class Conflict(ServiceError):
    """The state has moved on; read again and repeat."""


class RateLimited(ServiceError):
    """Too many requests from one client.

    Attributes:
        retry_after_s: Seconds until a request will be taken again.
    """

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            RefusalCode.RATE_LIMITED, f"too many requests; try again in {retry_after_s:.1f} s"
        )


class Unavailable(ServiceError):
    """Something the service stands on cannot be reached; trying again later is right."""

    @property
    @override
    def outward(self) -> str:
        """Only what is too much at once is the asker's business."""
        return self.reason if self.code is RefusalCode.OVERLOADED else _OUTWARD


class SettingsInvalid(ServiceError):
    """The configuration cannot be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.SETTINGS_INVALID, reason)

    @property
    @override
    def outward(self) -> str:
        """Which file is wrong is for whoever may read our log."""
        return _OUTWARD
