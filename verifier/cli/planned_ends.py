"""An operator's word on when a device or one of its agents ends."""

from __future__ import annotations

from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.moments import planned_moment
from verifier.services.decommission import Decommission
from verifier.sources import SystemClock


def tell_end(device: str, agent: str, text: str, *, never: bool, as_json: bool) -> None:
    """Set a planned end, or take it back, and say so.

    Args:
        device: The device's id.
        agent: The agent's name; empty for the device.
        text: The moment, as typed; empty with ``never``.
        never: Whether it has no end.
        as_json: How to say so.

    Raises:
        RequestRefused: From :func:`verifier.cli.moments.planned_moment`.
        ServiceError: From :meth:`verifier.services.decommission.Decommission.plan`.
    """
    at = SystemClock().now()
    ends = planned_moment(text, at, never=never)
    plan = Decommission(context.store(context.settings())).plan
    who = plan(device, ends, at, agent=agent)
    when = None if ends is None else moment(ends)
    output.tell(
        {"device_id": device, **({"agent": agent} if agent else {}), "decommission_at": when},
        f"{who} ends at {when}" if when else f"{who} has no planned end",
        as_json=as_json,
    )
