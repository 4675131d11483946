"""Who may use which route: one table, and the guard that enforces it (one place, every route).

A route that is not in the table cannot be registered; a test walks the application and the table.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from attestation.refusals import RefusalCode
from attestation.wire.est import PATH as EST_PATH
from verifier.api.client_certificate import STATE_KEY
from verifier.api.limits import Scope
from verifier.errors import NotAuthenticated, NotAuthorised
from verifier.ports import DeviceReader, DeviceRecord
from verifier.services.devices import DeviceCache


class Access(Enum):
    """What a route demands."""

    PUBLIC = "anyone"
    LDEVID = "TLS client certificate: the device's current LDevID"
    ENROLLING = (
        "TLS client certificate: IDevID, or a device's LDevID; none where the enrolment policy "
        "has a class that rests on something else"
    )
    ATTESTING = "as LDEVID; also one that fell with evidence that is still contraindicated"
    READER = "bearer token with role reader or operator"
    READER_OR_SELF = "bearer token, or the named device's own LDevID"


_EST: Final = {
    ("GET", "cacerts"): Access.PUBLIC,
    ("GET", "csrattrs"): Access.PUBLIC,
    ("GET", "nonce"): Access.ENROLLING,
    ("POST", "nonce"): Access.ENROLLING,
    ("POST", "simpleenroll"): Access.ENROLLING,
    ("POST", "simplereenroll"): Access.LDEVID,
    ("POST", "serverkeygen"): Access.PUBLIC,  # refused, whoever asks
    ("POST", "fullcmc"): Access.PUBLIC,  # refused, whoever asks
}

ACCESS: Final[dict[tuple[str, str], Access]] = {
    ("POST", "/enrol/v1/challenges"): Access.ENROLLING,
    ("POST", "/enrol/v1/activations"): Access.ENROLLING,
    ("POST", "/enrol/v1/requests"): Access.ENROLLING,
    ("POST", "/enrol/v1/agents/challenges"): Access.LDEVID,
    ("POST", "/enrol/v1/agents"): Access.LDEVID,
    ("POST", "/enrol/v1/agents/{name}/tokens"): Access.LDEVID,
    ("POST", "/enrol/v1/tokens"): Access.LDEVID,
    ("POST", "/attest/v1/challenges"): Access.ATTESTING,
    ("POST", "/attest/v1/evidence"): Access.ATTESTING,
    ("GET", "/results/v1/devices"): Access.READER,
    ("GET", "/results/v1/devices/{device_id}"): Access.READER_OR_SELF,
    ("GET", "/results/v1/devices/{device_id}/history"): Access.READER_OR_SELF,
    ("GET", "/decisions/v1/devices/{device_id}"): Access.READER_OR_SELF,
    ("POST", "/access/v1/evaluation"): Access.READER,
    ("GET", "/.well-known/authzen-configuration"): Access.PUBLIC,
    ("GET", "/.well-known/jwks.json"): Access.PUBLIC,
    ("GET", "/pki/v1/crl/{issuer}.crl"): Access.PUBLIC,
    ("GET", "/pki/v1/ca/{issuer}.cer"): Access.PUBLIC,
    ("GET", "/pki/v1/status/{number}"): Access.PUBLIC,
    ("POST", "/pki/v1/ocsp"): Access.PUBLIC,
    ("GET", "/pki/v1/ocsp/{question}"): Access.PUBLIC,
    ("GET", "/problems/{code}"): Access.PUBLIC,
    ("GET", "/openapi.json"): Access.PUBLIC,
    ("GET", "/health/live"): Access.PUBLIC,
    ("GET", "/health/ready"): Access.PUBLIC,
    ("GET", "/metrics"): Access.READER,
    **{
        (method, f"{prefix}/{operation}"): access
        for prefix in (EST_PATH, f"{EST_PATH}/{{label}}")
        for (method, operation), access in _EST.items()
    },
}
"""(method, path) to what it demands."""

MAX_SECRET_CHARS: Final = 256

ROLES: Final = frozenset({"reader", "operator"})
"""Roles that a bearer token may have; an operator may do whatever a reader may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking, as far as it has been proven.

    Attributes:
        certificate: The verified TLS client certificate, DER; None if none was shown.
        device: The device whose current LDevID that is; None if it is not one.
        role: Role of the bearer token; empty without one.
    """

    certificate: bytes | None
    device: DeviceRecord | None = None
    role: str = ""


class Guard:
    """Turns certificates and tokens into callers, or refuses.

    Args:
        store: For tokens and certificates.
        devices: For the device behind a certificate.
        authorities: Returns the DER of the subjects of all our CAs: LDevIDs are not IDevIDs.
        admits_strangers: Whether somebody without a certificate may be enrolled; nobody by default.
    """

    def __init__(
        self,
        *,
        store: DeviceReader,
        devices: DeviceCache,
        authorities: Callable[[], Collection[bytes]],
        admits_strangers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._devices = devices
        self._authorities = authorities
        self.admits_strangers = admits_strangers

    def admit(
        self, access: Access, scope: Scope, at: datetime, device_id: str | None = None
    ) -> Caller:
        """Return the caller if the route's demand is met.

        Args:
            access: From the table.
            scope: The request.
            at: Now.
            device_id: The device named in the path, if one is.

        Raises:
            NotAuthenticated: If there is no credential that we know.
            NotAuthorised: If there is one, but not for this.
        """
        der: bytes | None = scope["state"].get(STATE_KEY)
        if access is Access.PUBLIC:
            return Caller(certificate=der)
        if access is Access.ENROLLING:
            return self._enrolling(der)
        if access in (Access.LDEVID, Access.ATTESTING):
            attesting = access is Access.ATTESTING
            return Caller(certificate=der, device=self._ldevid(der, at, attesting=attesting))
        header = bearer_secret(scope)
        if header is not None:
            return Caller(certificate=der, role=self._role(header))
        if access is Access.READER or der is None:
            raise NotAuthenticated(
                RefusalCode.TOKEN_REQUIRED,
                "this needs 'Authorization: Bearer TOKEN'; make one with: verifier token create",
            )
        device = self._devices.by_certificate(der, at, fresh=True)
        if not hmac.compare_digest(device.device.encode(), (device_id or "").encode()):
            raise NotAuthorised(RefusalCode.ROLE_MISSING, "a device may read about itself only")
        return Caller(certificate=der, device=device)

    def _enrolling(self, der: bytes | None) -> Caller:
        """Admit whoever may ask; what the certificate is worth is judged with the request."""
        if der is None and not self.admits_strangers():
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_REQUIRED,
                "enrolment needs the device's IDevID, or the LDevID it was given, as TLS client "
                "certificate",
            )
        if der is not None and self._is_ours(der) and not self._is_known(der):
            raise NotAuthorised(
                RefusalCode.CLIENT_CERTIFICATE_WRONG,
                "the client certificate names our CA as its issuer, and none like it is recorded; "
                "enrol with the manufacturer's identity",
            )
        return Caller(certificate=der)

    def _is_known(self, der: bytes) -> bool:
        return self._store.device_by_certificate(hashlib.sha256(der).digest()) is not None

    def _is_ours(self, der: bytes) -> bool:
        return any(subject in der for subject in self._authorities())

    def _ldevid(self, der: bytes | None, at: datetime, *, attesting: bool) -> DeviceRecord:
        if der is None:
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_REQUIRED,
                "this needs the device's LDevID as TLS client certificate; enrol first",
            )
        return self._devices.by_certificate(der, at, attesting=attesting)

    def _role(self, secret: str) -> str:
        token = self._store.token(hashlib.sha256(secret.encode()).digest())
        if token is None:
            raise NotAuthenticated(RefusalCode.TOKEN_WRONG, "the bearer token is not known")
        if token.role not in ROLES:
            raise NotAuthorised(
                RefusalCode.ROLE_MISSING, f"the token's role {token.role!r} may not read results"
            )
        return token.role


def bearer_secret(scope: Scope) -> str | None:
    """Return the bearer token's secret, or None without an Authorization header.

    Raises:
        NotAuthenticated: If the header is there but is not of the form ``Bearer TOKEN``.
    """
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            kind, _, rest = text.partition(" ")
            secret = rest.strip()
            if kind.lower() != "bearer" or not 0 < len(secret) <= MAX_SECRET_CHARS:
                raise NotAuthenticated(
                    RefusalCode.TOKEN_WRONG, "the Authorization header is not 'Bearer TOKEN'"
                )
            return secret
    return None
