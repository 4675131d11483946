"""What one body may cost: bytes, seconds, and a place if it is big."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused, Unavailable

BIG_BYTES: Final = 6 * 1024 * 1024
"""A body above this holds a whole IMA list; the largest firmware log stays below."""

BIG_AT_ONCE: Final = 8
"""Big bodies under way, one for each client: judging one takes four times its size in memory."""

SLOWEST_BYTES_PER_S: Final = 1024 * 1024
"""What has arrived buys so much more time: the device agent counts on the same."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(RequestRefused):
    """The body is above the cap; what is left of it will not be read."""


class NoPlace(Unavailable):
    """A big body has to wait for others; what is left of it will not be read."""


class BigBodies:
    """Places for big bodies.

    Args:
        places: Big bodies under way at once.
    """

    def __init__(self, places: int = BIG_AT_ONCE) -> None:
        self._places = places
        self._holders: set[bytes] = set()

    @contextmanager
    def place(self, client: bytes) -> Iterator[Callable[[], None]]:
        """Give a function that takes a place for this client, held to the end of the context.

        The function raises :class:`NoPlace` if all places, or the client's only one, are taken.
        """
        taken = False

        def take() -> None:
            nonlocal taken
            if client in self._holders or len(self._holders) >= self._places:
                raise NoPlace(
                    RefusalCode.OVERLOADED,
                    f"at most {self._places} bodies above {BIG_BYTES} bytes are taken at once, "
                    "one from each client; try again shortly",
                )
            self._holders.add(client)
            taken = True

        try:
            yield take
        finally:
            if taken:
                self._holders.discard(client)


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
        seconds: From the first call to the last byte, and more for what has arrived.
        big: Called once, when more than ``BIG_BYTES`` have arrived; raises to read no more.
    """

    def __init__(
        self, receive: Receive, *, limit: int, seconds: float, big: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._big: Callable[[], None] | None = big
        self._seen = 0
        self._deadline: float | None = None
        self._complete = False

    async def __call__(self) -> Message:
        """Return the next message.

        Raises:
            BodyTooLarge: As soon as more than the cap has arrived.
            NoPlace: As soon as it is big and there is no place for it.
            RequestRefused: If the body takes too long.
        """
        if self._complete:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline + self._seen / SLOWEST_BYTES_PER_S):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID,
                f"the body did not arrive within {self._seconds:.0f} s "
                f"and one more for each {SLOWEST_BYTES_PER_S} bytes",
            ) from error
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise too_large(self._limit)
            if self._big is not None and self._seen > BIG_BYTES:
                self._big()
                self._big = None
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
