"""``verifier devices`` and ``verifier results``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from textwrap import shorten
from typing import Annotated, Final

import typer

from attestation.result import TrustTier
from verifier.api.documents import (
    device_document,
    history_document,
    moment,
    result_document,
)
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.moments import EndsAt, Never
from verifier.cli.planned_ends import tell_end
from verifier.decision.history import History, Transition, history
from verifier.issuance.reasons import Reason, parse_reason
from verifier.issuance.revocation_policy import Event
from verifier.ports import DeviceRecord, StoredResult
from verifier.services.devices import Devices
from verifier.sources import SystemClock, revocation_policy_named

devices = typer.Typer(no_args_is_help=True, help="Enrolled devices.")

_REASON_SHOWN: Final = 120

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
                document["decommission_at"] or "-",
            )
        )
    output.say_table(("device", "status", "decision", "enrolled", "ends"), rows)


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
    code: Annotated[
        str, typer.Option(help=f"In revocation lists: {', '.join(x.word for x in Reason)}.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Revoke a device for good: its certificates and agents fall, and its evidence is refused.

    The revocation policy says with which reason and whether an alarm is raised; it can make no less
    of it. For the certificates alone: verifier certificates revoke.
    """
    settings = context.settings()
    policy = revocation_policy_named(settings.policy.revocation, "policy.revocation ")
    rule = policy.rules.get(Event.OPERATOR)
    chosen = parse_reason(code) if code else (rule.reason if rule else Reason.UNSPECIFIED)
    at = SystemClock().now()
    alarm = rule is not None and rule.alarm
    found = Devices(context.store(settings)).revoke(device, reason, at, chosen, alarm=alarm)
    output.tell(
        {"device_id": found, "revoked": True, "reason": reason, "code": chosen.word},
        f"device {found} is revoked: {reason}",
        as_json=as_json,
    )


@devices.command()
def decommission(
    device: Device, *, at: EndsAt = "", never: Never = False, as_json: Json = False
) -> None:
    """Say when a device ends, in place of what its class says: it is revoked then, for good.

    No certificate of the device or its agents is issued beyond that, and it cannot enrol after it.
    """
    tell_end(device, "", at, never=never, as_json=as_json)


def results(
    device: Device,
    *,
    changes: Annotated[bool, typer.Option("--changes", help="What changed, and why.")] = False,
    grace: Annotated[float, typer.Option(min=0, help="Seconds a result may be late.")] = 0.0,
    as_json: Json = False,
    limit: Limit = 20,
) -> None:
    """List the results of one device, newest first; or what changed from one to the next."""
    at = SystemClock().now()
    found = Devices(context.store(context.settings())).history(device, before=0, limit=limit)
    told = history(
        found, at, grace=timedelta(seconds=grace), complete=not found or found[-1].seq == 1
    )
    if as_json:
        listed = [result_document(result, at) for result in found]
        output.say_json(history_document(told) if changes else listed)
        return
    output.say(_headline(told))
    if changes:
        for one in told.transitions:
            output.say(_change(one))
        return
    shortened = sys.stdout.isatty()
    reasons = first_reasons(found, shortened=shortened)
    rows = [
        (result.seq, moment(result.at), _status(result), _decision(result), reason)
        for result, reason in zip(found, reasons, strict=True)
    ]
    output.say_table(("seq", "at", "status", "decision", "first reason"), rows)
    if shortened and any(result.reasons for result in found):
        output.say(f"every reason whole: --json; the newest: appraise --device {device} --explain")


def first_reasons(found: Sequence[StoredResult], *, shortened: bool) -> list[str]:
    """Return the first reason of each result.

    Args:
        found: Results of one device, newest first.
        shortened: For a terminal: a reason that the result above tells too is told there only, a
            long one is cut at a word, and how many more there are is said.
    """
    told: list[str] = []
    above: tuple[str, ...] = ()
    for result in found:
        text = "; ".join(result.reasons[:1])
        if shortened and text:
            more = f" (and {len(result.reasons) - 1} more)" if len(result.reasons) > 1 else ""
            same = result.reasons == above
            text = "as above" if same else shorten(text, _REASON_SHOWN, placeholder=" …") + more
        told.append(text)
        above = result.reasons
    return told


def _headline(told: History) -> str:
    """Say in one line how a device stands."""
    if told.status is None or told.since is None:
        return "no result yet"
    more = "" if told.complete else " or longer"
    words = [f"{told.status.label} since {moment(told.since)}{more}"]
    if told.last_good_at is None:
        words.append("never affirming" + ("" if told.complete else " in these results"))
    elif told.status is not TrustTier.AFFIRMING:
        words.append(f"last affirming at {moment(told.last_good_at)}")
    if told.stale_for:
        late = ", within its grace" if told.in_grace else ""
        words.append(f"expired {told.stale_for.total_seconds():.0f} s ago{late}")
    return "; ".join(words)


def _change(one: Transition) -> str:
    words = [f"{moment(one.at)} {one.before.label} → {one.after.label}"]
    words += [f"{claim} {before} → {after}" for claim, (before, after) in one.claims.items()]
    if one.disappeared:
        words.append(f"gone: {', '.join(one.disappeared)}")
    if one.appeared:
        words.append(f"new: {', '.join(one.appeared)}")
    return "; ".join(words) + (f"\n  - {one.why}" if one.why else "")


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
