"""The verifier's API over HTTPS, with TLS client keys that stay in the TPM.

Enrolment speaks as the IDevID, attestation as the LDevID: one TLS context and one kept-alive
connection each. What the verifier answers is read strictly and bounded; its words are made safe
to print before anyone prints them.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from attestation.errors import AttestationError
from attestation.identity import device_id
from attestation.limits import MAX_IMA_ENTRIES
from attestation.pcr import parse_selection
from attestation.refusals import RefusalCode
from attestation.wire import media_types
from device_agent.errors import (
    SettingsInvalid,
    VerifierRefused,
    VerifierUnreachable,
)
from device_agent.ports import ChallengeReply, EnrolmentReply, EvidenceReply, KeyRole
from device_agent.transport.connection import Answer, Connection, KeyFailure

Dress = Callable[[ssl.SSLContext, KeyRole], None]
"""Gives a TLS context the client certificate and TPM key of a role."""

_JSON: Final = {"Accept": f"application/json, {media_types.PROBLEM}"}
_MOST_REASON_CHARS: Final = 500
_MOST_REASONS: Final = 64
_MOST_NONCE_BYTES: Final = 64
_MOST_TEXT_CHARS: Final = 128 * 1024
"""A signed result and a certificate chain have a few thousand; the state file holds both."""

_DEFAULT_PORT: Final = 443
_OK: Final = range(200, 300)
_SERVER_FAULT: Final = 500
_MOST_NUMBER: Final = 1e9


class VerifierAskedToWait(VerifierRefused):
    """A refusal with a Retry-After.

    Attributes:
        retry_after_s: Seconds that the verifier asks us to wait.
    """

    def __init__(self, code: str, reason: str, *, http_status: int, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(code, reason, http_status=http_status)


class HttpsVerifier:
    """Implements :class:`device_agent.ports.VerifierClient`.

    Args:
        url: ``https://host[:port]``.
        ca_file: PEM file of the verifier's TLS authority; the only one believed.
        dress: Gives a TLS context our key and certificate of a role.
        key_failure: Says why a client key did not sign, if it did not.
        connect_timeout_s: For TCP and handshake.
        read_timeout_s: For one whole exchange.
    """

    def __init__(
        self,
        *,
        url: str,
        ca_file: str,
        dress: Dress,
        key_failure: KeyFailure = lambda _context: None,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORT
        self._ca_file = ca_file
        self._dress = dress
        self._key_failure = key_failure
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._connections: dict[KeyRole, Connection] = {}

    def enrolment_challenge(self) -> ChallengeReply:
        """Ask for an enrolment challenge, as the IDevID."""
        answer = self._post(KeyRole.IDEVID, "/enrol/v1/challenges", b"", "", again=True)
        return _challenge(_document(answer))

    def enrol(self, message: bytes) -> EnrolmentReply:
        """Send an enrolment request, as the IDevID."""
        answer = self._post(
            KeyRole.IDEVID, "/enrol/v1/requests", message, media_types.ENROLMENT, again=False
        )
        return _enrolment(_document(answer))

    def challenge(self) -> ChallengeReply:
        """Ask for an attestation challenge, as the LDevID."""
        answer = self._post(KeyRole.LDEVID, "/attest/v1/challenges", b"", "", again=True)
        return _challenge(_document(answer))

    def submit(self, evidence: bytes) -> EvidenceReply:
        """Send evidence, as the LDevID."""
        answer = self._post(
            KeyRole.LDEVID, "/attest/v1/evidence", evidence, media_types.EVIDENCE, again=False
        )
        return _evidence(_document(answer))

    def probe(self, role: KeyRole | None) -> tuple[datetime | None, str]:
        """Ask whether the verifier lives; for ``device-agent check``.

        Args:
            role: The identity to show; None for none.

        Returns:
            The verifier's clock from its Date header, and the TLS version.
        """
        connection = self._new_connection(role)
        try:
            answer = connection.exchange("GET", "/health/live", headers=_JSON, again=False)
            version = connection.tls_version
        finally:
            connection.close()
        try:
            return parsedate_to_datetime(answer.headers.get("date", "")), version
        except ValueError:
            return None, version

    def forget(self, role: KeyRole) -> None:
        """Drop connection and TLS context of a role: its certificate changed."""
        connection = self._connections.pop(role, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close connections."""
        for role in tuple(self._connections):
            self.forget(role)

    def _post(
        self, role: KeyRole, path: str, body: bytes, media_type: str, *, again: bool
    ) -> Answer:
        connection = self._connections.get(role)
        if connection is None:
            connection = self._connections[role] = self._new_connection(role)
        headers = {**_JSON, "Content-Type": media_type} if media_type else _JSON
        return connection.exchange("POST", path, body=body, headers=headers, again=again)

    def _new_connection(self, role: KeyRole | None) -> Connection:
        return Connection(
            self._host,
            self._port,
            self._context(role),
            key_failure=self._key_failure,
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )

    def _context(self, role: KeyRole | None) -> ssl.SSLContext:
        context = server_context(self._ca_file, "verifier.ca_file")
        if role is not None:
            self._dress(context, role)
        return context


def server_context(ca_file: str, setting: str) -> ssl.SSLContext:
    """Return a TLS client context that believes one authority only, TLS 1.2 or newer.

    Args:
        ca_file: PEM file.
        setting: The setting's name, for the message.

    Raises:
        SettingsInvalid: If the file cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"{setting} {ca_file} cannot be used: {error}") from error
    return context


def printable(text: object, most_chars: int = _MOST_REASON_CHARS) -> str:
    """Return foreign words fit for a terminal and a log: bounded, no control characters."""
    cut = str(text)[:most_chars]
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


def _document(answer: Answer) -> Mapping[str, object]:
    """Return the JSON object of a good answer, or raise what a bad one says."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if answer.status in _OK:
        if not isinstance(document, dict):
            raise _strange("is not a JSON object")
        return document
    code = document.get("code") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(code, str):
        if answer.status >= _SERVER_FAULT:
            raise VerifierUnreachable(f"the verifier answers HTTP {answer.status}")
        raise VerifierRefused(
            RefusalCode.REQUEST_INVALID,
            f"the verifier answers HTTP {answer.status} without saying why",
            http_status=answer.status,
        )
    reason = document.get("detail") or document.get("title") or f"HTTP {answer.status}"
    raise _refused(printable(code, 64), printable(reason), answer)


def _refused(code: str, reason: str, answer: Answer) -> VerifierRefused:
    try:
        pause = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return VerifierRefused(code, reason, http_status=answer.status)
    return VerifierAskedToWait(
        code, reason, http_status=answer.status, retry_after_s=max(0.0, pause)
    )


def _strange(what: str) -> VerifierUnreachable:
    return VerifierUnreachable(f"something answers at verifier.url, but its answer {what}")


def _text(document: Mapping[str, object], key: str) -> str:
    """Return a text that fits into the state file and can be written anywhere."""
    value = document.get(key)
    if not isinstance(value, str) or not value.isascii() or len(value) > _MOST_TEXT_CHARS:
        raise _strange(f"has no ASCII text {key!r} of at most {_MOST_TEXT_CHARS} characters")
    return value


def _number(document: Mapping[str, object], key: str) -> float:
    value = document.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < _MOST_NUMBER
    ):
        raise _strange(f"has no number {key!r}")
    return float(value)


def _ima_next(document: Mapping[str, object]) -> int:
    """Return where the IMA list goes on; 0, the whole list, from a verifier that does not say."""
    value = document.get("ima_next", 0)
    if type(value) is not int or not 0 <= value <= MAX_IMA_ENTRIES:
        raise _strange(f"has an ima_next that is not 0 to {MAX_IMA_ENTRIES}")
    return value


def _flag(document: Mapping[str, object], key: str) -> bool:
    value = document.get(key)
    if not isinstance(value, bool):
        raise _strange(f"has no flag {key!r}")
    return value


def _challenge(document: Mapping[str, object]) -> ChallengeReply:
    text = _text(document, "nonce")
    try:
        nonce = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        selections = parse_selection(_text(document, "pcr_selection"))
    except (ValueError, AttestationError) as error:
        raise _strange("holds no challenge that can be answered") from error
    if not 0 < len(nonce) <= _MOST_NONCE_BYTES:
        raise _strange(f"holds a nonce that is not 1 to {_MOST_NONCE_BYTES} bytes")
    return ChallengeReply(
        nonce=nonce, selections=selections, expires_in_s=_number(document, "expires_in_s")
    )


def _enrolment(document: Mapping[str, object]) -> EnrolmentReply:
    try:
        name = device_id(_text(document, "device_id"))
        not_after = datetime.fromisoformat(_text(document, "not_after"))
    except (ValueError, AttestationError) as error:
        raise _strange("holds no device id or no time") from error
    if not_after.tzinfo is None:
        raise _strange("holds a time without time zone")
    chain = _text(document, "certificate_chain_pem")
    return EnrolmentReply(
        device_id=name,
        certificate_chain_pem=chain,
        not_after=not_after,
        not_before=_begin(chain),
        ima_next=_ima_next(document),
    )


def _begin(chain_pem: str) -> datetime | None:
    """Return when the leaf begins; what uses the chain will say what is wrong with it."""
    try:
        return x509.load_pem_x509_certificate(chain_pem.encode()).not_valid_before_utc
    except ValueError:
        return None


def _evidence(document: Mapping[str, object]) -> EvidenceReply:
    reasons, following = document.get("reasons"), document.get("next")
    if not isinstance(reasons, list) or not isinstance(following, dict):
        raise _strange("has no reasons or no next challenge")
    return EvidenceReply(
        status=printable(_text(document, "status"), 32),
        allowed=_flag(document, "allow"),
        reasons=tuple(printable(reason) for reason in reasons[:_MOST_REASONS]),
        result=_text(document, "result"),
        next=_challenge(following),
        log_known=_flag(document, "log_known"),
        attest_in_s=_number(document, "attest_in_s"),
        ima_next=_ima_next(document),
    )
