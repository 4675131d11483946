"""``verifier devices`` and ``verifier results``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from verifier.api.documents import device_document, moment, result_document
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.ports import DeviceRecord, StoredResult
from verifier.services.devices import Devices
from verifier.sources import SystemClock

devices = typer.Typer(no_args_is_help=True, help="Enrolled devices.")

Device = Annotated[str, typer.Argument(help="Device id.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]


@devices.command("list")
def list_devices(*, as_json: Json = False, after: str = "", limit: Limit = 1000) -> None:
    """List devices with their newest results."""
    at = SystemClock().now()
    page = Devices(context.store(context.settings())).page(after=after, limit=limit)
    if as_json:
        output.say_json([device_document(record, newest, at) for record, newest in page])
        return
    rows = []
    for record, newest in page:
        document = device_document(record, newest, at)
        rows.append(
            (
                record.device,
                _state(record, newest),
                _decision_now(record, newest, at),
                document["enrolled_at"],
            )
        )
    output.say_table(("device", "status", "decision", "enrolled"), rows)


@devices.command()
def show(device: Device, *, as_json: Json = False) -> None:
    """Show one device and its newest result."""
    at = SystemClock().now()
    record, newest = Devices(context.store(context.settings())).show(device)
    document = device_document(record, newest, at)
    if as_json:
        output.say_json(document)
        return
    for name, value in document.items():
        if name != "result":
            output.say(f"{name}: {value}")
    if newest is None:
        output.say("result: none yet")
        return
    result = result_document(newest, at)
    for name in ("at", "status", "expired", "allow", "policy_id", "reference_set", "vector"):
        output.say(f"{name}: {result[name]}")
    for reason in newest.reasons:
        output.say(f"  - {reason}")


@devices.command()
def revoke(
    device: Device,
    *,
    reason: Annotated[str, typer.Option(help="Why; told to whoever asks.")] = "by the operator",
    as_json: Json = False,
) -> None:
    """Revoke a device: its certificates end and its evidence is refused."""
    found = Devices(context.store(context.settings())).revoke(device, reason, SystemClock().now())
    if as_json:
        output.say_json({"device_id": found, "revoked": True, "reason": reason})
    else:
        output.say(f"device {found} is revoked: {reason}")


def results(device: Device, *, as_json: Json = False, limit: Limit = 20) -> None:
    """List the results of one device, newest first."""
    at = SystemClock().now()
    found = Devices(context.store(context.settings())).history(device, before=0, limit=limit)
    if as_json:
        output.say_json([result_document(result, at) for result in found])
        return
    rows = [
        (
            result.seq,
            moment(result.at),
            _status(result),
            _decision(result),
            "; ".join(result.reasons[:1]),
        )
        for result in found
    ]
    output.say_table(("seq", "at", "status", "decision", "first reason"), rows)


def _status(result: StoredResult) -> str:
    return str(result_document(result, result.at)["status"])


def _state(record: DeviceRecord, newest: StoredResult | None) -> str:
    if record.enrolment.revoked:
        return "revoked"
    return _status(newest) if newest else "none"


def _decision_now(record: DeviceRecord, newest: StoredResult | None, at: datetime) -> str:
    """Return what the last decision is worth now: nothing once revoked or expired."""
    if record.enrolment.revoked or newest is None or at >= newest.expires_at:
        return "deny"
    return _decision(newest)


def _decision(result: StoredResult) -> str:
    return "allow" if result.allow else "deny"
