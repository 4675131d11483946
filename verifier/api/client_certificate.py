"""The verified client certificate of a TLS connection, handed to the application.

uvicorn does not give an application the client's certificate. This subclass of its protocol reads
the DER once per connection, after the handshake has verified the chain, and puts it into the
request's state. No header can forge it.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from ssl import CERT_OPTIONAL, PROTOCOL_TLS_SERVER, SSLContext, SSLError, TLSVersion
from typing import Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from verifier.errors import SettingsInvalid

STATE_KEY: Final = "client_certificate"
"""Key in ``scope["state"]``: DER bytes, or None."""

FINGERPRINT_KEY: Final = "client_fingerprint"
"""Key in ``scope["state"]``: SHA-256 of the certificate, or None."""


class ClientCertificateProtocol(HttpToolsProtocol):
    """httptools protocol that knows who is at the other end."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the client's certificate for all requests of this connection."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        # A copy of its own: the state handed in is shared by all connections.
        self.app_state = {
            **self.app_state,
            STATE_KEY: der,
            FINGERPRINT_KEY: hashlib.sha256(der).digest() if der is not None else None,
        }


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
