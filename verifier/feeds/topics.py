"""MQTT topics: the layout, and which response topics a query may name.

A broker does not tell who published; who may publish where is the broker's ACL. So the requester's
name is taken from the request topic, which the ACL protects, and the response topic, which anyone
can write into a message, must lie below that very name. Otherwise the verifier, which may write
everywhere, would write wherever an attacker points (a confused deputy).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LEVEL: Final = r"[A-Za-z0-9_.@-]{1,64}"
_DEVICE: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question about one device.

    Attributes:
        requester: Who asks, as the broker's ACL has proven.
        device: About whom.
    """

    requester: str
    device: str


class Topics:
    """The layout below one prefix.

    Args:
        prefix: ``att/v1``.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._request = re.compile(
            rf"{re.escape(prefix)}/query/(?P<requester>{_LEVEL})/(?P<device>{_DEVICE})/req"
        )

    def result(self, device: str) -> str:
        """Return where the signed result is kept (retained)."""
        return f"{self._prefix}/{device}/result"

    def summary(self, device: str) -> str:
        """Return where the result in words is kept (retained)."""
        return f"{self._prefix}/{device}/result/summary"

    def request(self, requester: str, device: str) -> str:
        """Return where a requester asks about a device."""
        return f"{self._prefix}/query/{requester}/{device}/req"

    def response(self, requester: str, name: str) -> str:
        """Return where a requester is answered."""
        return f"{self._prefix}/query/{requester}/res/{name}"

    def all_requests(self) -> str:
        """Return the shared subscription of all verifiers to all queries."""
        return f"$share/verifiers/{self._prefix}/query/+/+/req"

    def parse_request(self, topic: str) -> Query | None:
        """Read a request topic; None if it is not one."""
        found = self._request.fullmatch(topic)
        return Query(requester=found["requester"], device=found["device"]) if found else None

    def may_answer(self, query: Query, response_topic: str) -> bool:
        """Say whether a response topic is the requester's own."""
        pattern = rf"{re.escape(self._prefix)}/query/{re.escape(query.requester)}/res/{_LEVEL}"
        return re.fullmatch(pattern, response_topic) is not None
