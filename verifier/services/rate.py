"""Token buckets, one per client: what HTTP and MQTT both limit requests with."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from verifier.errors import RateLimited

MAX_CLIENTS: Final = 200_000
"""Clients remembered; the one seen longest ago is forgotten first."""


class RateLimiter:
    """One token bucket per client.

    Args:
        per_second: Tokens that flow in.
        burst: Tokens that a bucket holds.
    """

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._rate = per_second
        self._burst = float(burst)
        self._buckets: OrderedDict[bytes | str, tuple[float, float]] = OrderedDict()

    def admit(self, client: bytes | str, now_s: float) -> None:
        """Take one token.

        Args:
            client: Certificate fingerprint, address or requester's name.
            now_s: Monotonic seconds.

        Raises:
            RateLimited: If the bucket is empty.
        """
        tokens, before = self._buckets.pop(client, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - before) * self._rate)
        if tokens < 1:
            self._buckets[client] = (tokens, now_s)
            raise RateLimited((1 - tokens) / self._rate)
        self._buckets[client] = (tokens - 1, now_s)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
