"""The planned end of a device or agent: set by its class at first, then by an operator's word."""

from __future__ import annotations

from datetime import datetime, timedelta

from attestation.identity import agent_name, device_id
from attestation.refusals import RefusalCode
from verifier.errors import NotAuthorised, NotFound
from verifier.ports import DeviceRecord, Store
from verifier.ports.credentials import AgentRecord
from verifier.services.devices import unknown_device


def planned_end(
    before: DeviceRecord | AgentRecord | None, after: timedelta | None, at: datetime
) -> datetime | None:
    """Return when a device or agent ends that enrols now; an enrolment never pushes it out.

    Args:
        before: What was recorded of it; None for a new one.
        after: How long after its first enrolment its class has it end; None for never. One that
            was enrolled before its class said so counts from now.
        at: Now (aware).
    """
    if before is not None and (before.decommission_told or before.decommission_at is not None):
        return before.decommission_at
    return at + after if after is not None else None


def lifetime_until(
    wanted: timedelta, ends: datetime | None, at: datetime, *, shortest: timedelta, device: str
) -> timedelta:
    """Return how long a device's certificate lasts: never beyond the device's own end.

    Args:
        wanted: By class or settings.
        ends: When the device is to be decommissioned; None for never.
        at: Now (aware).
        shortest: What a certificate of its profile lasts at least.
        device: Whose.

    Raises:
        NotAuthorised: ``device-decommissioned`` if the device ends before that, or has ended.
    """
    if ends is None:
        return wanted
    left = ends - at
    if left < shortest:
        raise NotAuthorised(
            RefusalCode.DEVICE_DECOMMISSIONED,
            f"device {device} is to be decommissioned at {ends.isoformat()}, and its certificates "
            f"would last {shortest} at least; an operator can set another date: "
            "verifier devices decommission",
        )
    return min(wanted, left)


def earliest(*moments: datetime | None) -> datetime | None:
    """Return the earliest of those that are planned; None if none is."""
    return min((one for one in moments if one is not None), default=None)


class Decommission:
    """What operators say of planned ends.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def plan(self, name: str, ends: datetime | None, at: datetime, *, agent: str = "") -> str:
        """Set when a device or one of its agents ends, or take that back.

        Args:
            name: The device.
            ends: From when on it is to be revoked, to come (aware); None for never.
            at: Now (aware).
            agent: The agent; empty for the device.

        Returns:
            ``device``, or ``device/agent``.

        Raises:
            InputError: ``device-id-invalid``, ``agent-name-invalid``.
            NotFound: ``device-unknown``, ``agent-unknown``.
            NotAuthorised: ``device-revoked``, ``agent-revoked``: what has ended stays so.
        """
        device, wanted = device_id(name), agent_name(agent) if agent else ""
        record = self._store.device(device)
        if record is None:
            raise unknown_device(name)
        if wanted and self._store.agent(device, wanted) is None:
            raise NotFound(RefusalCode.AGENT_UNKNOWN, f"no agent {wanted} is enrolled on {device}")
        who = f"{device}/{wanted}" if wanted else str(device)
        with self._store.work() as work:
            if not work.decommission(device, ends, at, agent=wanted):
                raise NotAuthorised(
                    RefusalCode.AGENT_REVOKED if wanted else RefusalCode.DEVICE_REVOKED,
                    f"{who} is revoked and stays so; no date changes that",
                )
        return who
