"""What one body may cost: bytes and seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(RequestRefused):
    """The body is above the cap; what is left of it will not be read."""


def too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of an oversize body."""
    return BodyTooLarge(
        RefusalCode.TOO_LARGE, f"the body is larger than {limit} bytes, which is all that is read"
    )


def check_length(scope: Scope, limit: int) -> None:
    """Refuse a body that announces itself as too large, before a byte of it is read.

    Raises:
        BodyTooLarge: If Content-Length is above the cap.
        RequestRefused: If it is not a number.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise RequestRefused(RefusalCode.REQUEST_INVALID, "Content-Length is not a number")
            if int(value) > limit:
                raise too_large(limit)


class CappedBody:
    """A ``receive`` that stops counting where the cap is, and never waits for ever.

    Args:
        receive: The server's ``receive``.
        limit: Bytes.
        seconds: From the first call to the last byte.
    """

    def __init__(self, receive: Receive, *, limit: int, seconds: float) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._seen = 0
        self._deadline: float | None = None
        self._complete = False

    async def __call__(self) -> Message:
        """Return the next message.

        Raises:
            BodyTooLarge: As soon as more than the cap has arrived.
            RequestRefused: If the body takes too long.
        """
        if self._complete:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID,
                f"the body did not arrive within {self._seconds:.0f} s",
            ) from error
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise too_large(self._limit)
            self._complete = not message.get("more_body", False)
        return message


async def read_body(receive: Receive) -> bytes:
    """Read a whole body through a capped ``receive``.

    Raises:
        RequestRefused: If the client goes away in the middle.
    """
    message = await receive()
    parts: list[bytes] = []
    while True:
        if message["type"] == "http.disconnect":
            raise RequestRefused(RefusalCode.REQUEST_INVALID, "the client left before the end")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
        message = await receive()


async def drain(receive: Receive, *, limit: int, seconds: float) -> None:
    """Read and forget what a refused client still sends, boundedly.

    Closing at once would reset the connection and the client would never see why.
    """
    seen = 0
    try:
        async with asyncio.timeout(seconds):
            while seen < limit:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                seen += len(message.get("body", b""))
    except TimeoutError:
        return
