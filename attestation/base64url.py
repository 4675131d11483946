"""base64url without padding (RFC 4648 section 5; RFC 7515 section 2): nonces, tokens, JWT, JWK."""

from __future__ import annotations

import base64


def base64url(content: bytes) -> bytes:
    """Return ``content`` in base64url without ``=``, as ASCII bytes: what a signature goes over."""
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def base64url_text(content: bytes) -> str:
    """Return ``content`` in base64url without ``=``, as text."""
    return base64url(content).decode("ascii")
