"""One HTTPS connection with a deadline for the whole exchange and a bound on what is read.

A socket timeout bounds each read; a server that sends one byte per read would still hold us for
ever. So each exchange has a deadline, after which the connection is shut down under its reader.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from attestation.refusals import RefusalCode
from device_agent.errors import (
    DeviceAgentError,
    VerifierRefused,
    VerifierUnreachable,
    VerifierUntrusted,
)

MOST_ANSWER_BYTES: Final = 1024 * 1024
"""An answer holds one EAR and one challenge: a few kilobytes."""

SLOWEST_BYTES_PER_S: Final = 1024 * 1024
"""A body gets so much more time to go out; the largest adds half a minute, which leaves systemd's
watchdog its minute. The verifier grants the same."""

_CLIENT_CERTIFICATE_ALERTS: Final = (
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_ACCESS_DENIED",
)
"""TLS alerts by which a server refuses *our* certificate (RFC 8446 section 6.2)."""


KeyFailure = Callable[[ssl.SSLContext], DeviceAgentError | None]
"""Why the latest signature of a context's client key failed; None if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A kept-alive HTTPS connection to one server as one TLS identity.

    Args:
        host: Server name; the certificate must carry it.
        port: Server port.
        context: Verifies the server and holds our client key.
        key_failure: Says why the client key did not sign for a context, if it did not.
        connect_timeout_s: For TCP and the TLS handshake.
        read_timeout_s: For one whole exchange; a large body gets more.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        key_failure: KeyFailure,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._key_failure = key_failure
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._open: http.client.HTTPConnection | None = None
        self._guard: socket.socket | None = None

    def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str],
        again: bool,
    ) -> Answer:
        """Send one request and read the answer.

        Args:
            method: HTTP method.
            path: Path on the server.
            body: Request body.
            headers: Request headers.
            again: The request may be sent a second time when a kept-alive connection turns out
                to be dead. False for evidence: the verifier may have taken it already.

        Raises:
            VerifierUnreachable: If there is no connection or no whole answer in time.
            VerifierUntrusted: If the server does not prove its name.
            VerifierRefused: If the server refuses our certificate in the handshake.
        """
        reused = self._is_alive()
        try:
            return self._exchange(method, path, body, headers)
        except VerifierUnreachable:
            if not (reused and again):
                raise
            return self._exchange(method, path, body, headers)

    def close(self) -> None:
        """Close the connection; the next exchange opens a new one."""
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    @property
    def tls_version(self) -> str:
        """``TLSv1.3``, or empty while closed."""
        tls = self._open.sock if self._open is not None else None
        return (tls.version() or "") if isinstance(tls, ssl.SSLSocket) else ""

    def _is_alive(self) -> bool:
        """Say whether a kept-alive connection is open and silent; close it if it is not.

        An idle connection has nothing to say but that it ends.
        """
        if self._open is None or self._open.sock is None:
            return False
        readable, _, _ = select.select([self._open.sock], [], [], 0)
        if readable:
            self.close()
        return not readable

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        try:
            if self._open is None:
                self._connect()
            return self._converse(method, path, body, headers)
        except BaseException as error:
            self.close()
            translated = self._translate(error)
            if translated is None:
                raise
            raise translated from error

    def _connect(self) -> None:
        raw = socket.create_connection((self._host, self._port), timeout=self._connect_timeout_s)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A second descriptor of the same connection: safe to shut down from the timer's
            # thread whatever TLS does with the first one.
            self._guard = raw.dup()
            with self._deadline(self._connect_timeout_s):
                tls = self._context.wrap_socket(raw, server_hostname=self._host)
        except BaseException:
            raw.close()
            raise
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.auto_open = 0
        connection.sock = tls
        self._open = connection

    def _converse(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = self._open
        if connection is None:
            raise http.client.NotConnected
        seconds = self._read_timeout_s + len(body or b"") / SLOWEST_BYTES_PER_S
        connection.sock.settimeout(seconds)
        with self._deadline(seconds):
            # A server that refuses us (our certificate, or a body too large) says so and closes,
            # perhaps before it has read everything: what it said is still there to be read.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            content = response.read(MOST_ANSWER_BYTES + 1)
        if response.length and len(content) <= MOST_ANSWER_BYTES:
            # With a size argument, read() says nothing when the answer ends early.
            raise http.client.IncompleteRead(content, response.length)
        if len(content) > MOST_ANSWER_BYTES:
            raise VerifierUnreachable(
                f"{self._host} answers with more than {MOST_ANSWER_BYTES} bytes; that is no "
                "verifier's answer"
            )
        if response.will_close:
            self.close()
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=content,
        )

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        guard = self._guard
        timer = threading.Timer(seconds, _shut_down, args=(guard,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _translate(self, error: BaseException) -> Exception | None:
        """Return our error for a library's; None for one that is not about the verifier."""
        place = f"{self._host}:{self._port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return _translate_tls(error, place)
        if isinstance(error, ssl.SSLError):
            return self._key_failure(self._context) or _translate_tls(error, place)
        if isinstance(error, http.client.HTTPException):
            return VerifierUnreachable(
                f"{place} does not give a whole HTTP answer ({type(error).__name__})"
            )
        if isinstance(error, OSError):
            late = isinstance(error, TimeoutError)
            why = "no answer in time" if late else error.strerror or str(error)
            return VerifierUnreachable(f"{place} cannot be reached: {why}")
        return None


def _translate_tls(error: ssl.SSLError, place: str) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return VerifierUntrusted(
            f"the certificate of {place} is not trusted: {error.verify_message}; check "
            "verifier.ca_file and the host in verifier.url"
        )
    reason = error.reason or ""
    if any(alert in reason for alert in _CLIENT_CERTIFICATE_ALERTS):
        return VerifierRefused(
            RefusalCode.CLIENT_CERTIFICATE_WRONG,
            f"{place} refuses this device's certificate in the TLS handshake ({reason})",
            http_status=0,
        )
    return VerifierUnreachable(f"TLS with {place} fails: {reason or error}")


def _shut_down(guard: socket.socket | None) -> None:
    try:
        if guard is not None:
            guard.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
