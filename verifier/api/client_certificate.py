"""What uvicorn's protocol lacks: the client's certificate, and an end to a request's head.

uvicorn does not give an application the client's certificate. This subclass of its protocol reads
the DER once per connection, after the handshake has verified the chain, and puts it into the
request's state. No header can forge it.

Nor does it bound what comes before the application: a head may be of any length and take for ever.
Here both end (RFC 6585, 5: 431; RFC 9110, 15.5.9: 408). Bodies are :mod:`verifier.api.limits`'.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from ssl import CERT_OPTIONAL, PROTOCOL_TLS_SERVER, SSLContext, SSLError, SSLObject, TLSVersion
from typing import Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from verifier.errors import SettingsInvalid

STATE_KEY: Final = "client_certificate"
"""Key in ``scope["state"]``: DER bytes, or None."""

FINGERPRINT_KEY: Final = "client_fingerprint"
"""Key in ``scope["state"]``: SHA-256 of the certificate, or None."""

TLS_UNIQUE_KEY: Final = "tls_unique"
"""Key in ``scope["state"]``: ``tls-unique`` (RFC 5929, 3), or None: TLS 1.3 has none."""

HEAD_BYTES: Final = 64 * 1024
"""What may come beside a body: request line, headers, chunk sizes, trailers; and one read more."""

HEAD_SECONDS: Final = 10.0
"""From the connection, or the first byte of a request, to the end of its headers."""

SPARE_CONNECTIONS: Final = 64
"""So many above the limit are told 503; those beyond are closed, for each takes a descriptor."""

_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\n"
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_NOTHING_FOLLOWS: Final = b"connection: close\r\ncontent-length: 0\r\n\r\n"


def _tls_unique(tls: SSLObject | None) -> bytes | None:
    if tls is None or tls.version() != "TLSv1.2":
        return None
    return tls.get_channel_binding("tls-unique")


class ClientCertificateProtocol(HttpToolsProtocol):
    """httptools protocol that knows who is at the other end, and waits for a head boundedly."""

    _watch: asyncio.TimerHandle | None = None
    _in_message = False
    _beside_body = 0
    _body = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the client's certificate for all requests of this connection."""
        super().connection_made(transport)
        most = self.limit_concurrency
        if most is not None and len(self.connections) > most + SPARE_CONNECTIONS:
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        # A copy of its own: the state handed in is shared by all connections.
        self.app_state = {
            **self.app_state,
            STATE_KEY: der,
            FINGERPRINT_KEY: hashlib.sha256(der).digest() if der is not None else None,
            TLS_UNIQUE_KEY: _tls_unique(tls),
        }
        self._watch = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Let the timer go with the connection."""
        self._unwatch()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Count what is not body, and see that somebody looks at the clock."""
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > HEAD_BYTES + self._body:
            self._end(_TOO_LONG)
        elif not self._between_answers():
            self._unwatch()  # A request is being served: its body has a deadline of its own.
        elif self._in_message and self._watch is None:
            self._watch = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        elif not self._in_message and self._watch is None:
            # Stray bytes between requests have ended the keep-alive timer: begin it again.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    @override
    def on_message_begin(self) -> None:
        """Count anew."""
        self._in_message, self._beside_body, self._body = True, 0, 0
        super().on_message_begin()

    @override
    def on_body(self, body: bytes) -> None:
        """Tell the body from what surrounds it."""
        self._beside_body -= len(body)
        self._body += len(body)
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        """The next byte begins another request."""
        self._in_message = False
        self._unwatch()
        super().on_message_complete()

    def _between_answers(self) -> bool:
        # uvicorn's type does not say that there is none before the first request.
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _head_is_late(self) -> None:
        self._end(_TOO_SLOW if self._in_message and self._body == 0 else b"")

    def _end(self, status: bytes) -> None:
        """Close; with a status if a request was begun and nothing was answered to it yet."""
        self._unwatch()
        if self.transport.is_closing():
            return
        if not self._between_answers():
            self.transport.abort()
            return
        if status:
            self.transport.write(status + _NOTHING_FOLLOWS)
        self.transport.close()


def tls_context(certificate: Path, key: Path, client_authorities: str) -> SSLContext:
    """Make the server's TLS context: 1.2 or newer, client certificate welcome but optional.

    A client that shows a certificate must show one that chains to ``client_authorities``, else
    the handshake fails.

    Args:
        certificate: PEM chain of the server.
        key: PEM key of the server.
        client_authorities: PEM text: manufacturers' roots and our device CA.

    Raises:
        SettingsInvalid: If a file cannot be used.
    """
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.minimum_version = TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, SSLError) as error:
        raise SettingsInvalid(
            f"the TLS certificate {certificate} and key {key} cannot be used: {error}; "
            "name them in [server] or run: verifier init --hostname NAME"
        ) from error
    context.verify_mode = CERT_OPTIONAL
    try:
        context.load_verify_locations(cadata=client_authorities)
    except (SSLError, ValueError) as error:
        raise SettingsInvalid(f"the client CA certificates cannot be used: {error}") from error
    return context
