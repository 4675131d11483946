"""``verifier agents``: the AI agents of a device."""

from __future__ import annotations

from typing import Annotated

import typer

from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.moments import EndsAt, Never
from verifier.cli.planned_ends import tell_end
from verifier.errors import RequestRefused
from verifier.ports.credentials import AgentRecord, StoredCertificate
from verifier.services.agent_records import AgentRecords
from verifier.sources import SystemClock

agents = typer.Typer(no_args_is_help=True, help="AI agents of enrolled devices.")

Device = Annotated[str, typer.Argument(help="Device id.")]
Agent = Annotated[str, typer.Argument(help="The agent's name on that device.")]


def _records() -> AgentRecords:
    return AgentRecords(context.store(context.settings()))


@agents.command("list")
def list_agents(device: Device, *, as_json: Json = False) -> None:
    """List the agents of a device."""
    found = _records().all(device)
    if as_json:
        output.say_json([_document(one, None) for one in found])
        return
    rows = [
        (
            one.name,
            "revoked" if one.revoked_reason else "enrolled",
            one.owner or "-",
            " ".join(one.capabilities) or "-",
            moment(one.certificate_not_after),
            moment(one.decommission_at) if one.decommission_at else "-",
        )
        for one in found
    ]
    output.say_table(("agent", "state", "owner", "capabilities", "certificate ends", "ends"), rows)


@agents.command()
def show(device: Device, agent: Agent, *, as_json: Json = False) -> None:
    """Show one agent and its newest certificate."""
    document = _document(*_records().show(device, agent))
    if as_json:
        output.say_json(document)
        return
    for name, value in document.items():
        words = " ".join(value) if isinstance(value, list) else value
        output.say(f"{name}: {'-' if words in ('', None) else words}")


@agents.command()
def revoke(
    device: Device,
    agent: Agent,
    *,
    reason: Annotated[str, typer.Option(help="Why; told to whoever asks.")] = "by the operator",
    as_json: Json = False,
) -> None:
    """Revoke an agent for good: its certificates end and it gets no token."""
    found = _records().revoke(device, agent, reason, SystemClock().now())
    output.tell(
        {"agent_id": found.holder, "revoked": True, "reason": reason},
        f"agent {found.name} of {found.device} is revoked: {reason}",
        as_json=as_json,
    )


@agents.command()
def decommission(
    device: Annotated[str, typer.Argument(help="Device id, or DEVICE/AGENT.")],
    agent: Annotated[str, typer.Argument(help="The agent's name, if not said with it.")] = "",
    *,
    at: EndsAt = "",
    never: Never = False,
    as_json: Json = False,
) -> None:
    """Say when an agent ends, in place of what its class says: it is revoked then, for good."""
    first, slash, rest = device.partition("/")
    if bool(slash) == bool(agent) or not (rest or agent):
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "name the agent once: DEVICE/AGENT")
    tell_end(first, rest or agent, at, never=never, as_json=as_json)


def _document(record: AgentRecord, newest: StoredCertificate | None) -> dict[str, object]:
    document: dict[str, object] = {
        "device_id": record.device,
        "agent": record.name,
        "agent_id": record.holder,
        "agent_class": record.agent_class,
        "owner": record.owner,
        "capabilities": list(record.capabilities),
        "locator": record.locator,
        "validation_methods": list(record.validation_methods),
        "enrolled_at": moment(record.enrolled_at),
        "certificate_not_after": moment(record.certificate_not_after),
        "decommission_at": moment(record.decommission_at) if record.decommission_at else None,
        "revoked_reason": record.revoked_reason,
    }
    if newest is not None:
        document["certificate_serial"] = f"{newest.certificate.serial:x}"
        document["log_entry"] = newest.number
    return document
