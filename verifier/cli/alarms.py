"""``verifier alarms list`` and ``seen``: what an operator must look at."""

from __future__ import annotations

from typing import Annotated

import typer

from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.errors import NotFound
from verifier.sources import SystemClock

alarms = typer.Typer(no_args_is_help=True, help="What an operator must look at.")


@alarms.command("list")
def list_alarms(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were seen.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List alarms, newest first. Exit code 1 if there are some that nobody has seen."""
    found = context.store(context.settings()).alarms(unseen=not everything, limit=limit)
    if as_json:
        output.say_json(
            [
                {
                    "number": one.number,
                    "at": moment(one.at),
                    "code": one.code,
                    "subject": one.subject,
                    "reason": one.reason,
                    "seen_at": moment(one.seen_at) if one.seen_at else None,
                }
                for one in found
            ]
        )
    else:
        output.say_table(
            ("number", "at", "code", "subject", "reason"),
            [(one.number, moment(one.at), one.code, one.subject, one.reason) for one in found],
        )
    raise typer.Exit(1 if any(one.seen_at is None for one in found) else 0)


@alarms.command()
def seen(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Numbers of the alarms.", show_default=False)
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every alarm there is.")] = False,
    as_json: Json = False,
) -> None:
    """Take note of alarms: they are no longer listed, and the next of their kind is raised anew."""
    store, at = context.store(context.settings()), SystemClock().now()
    chosen = list(numbers or ())
    if everything:
        chosen = [one.number for one in store.alarms(limit=100_000)]
    with store.work() as work:
        unknown = [number for number in chosen if not work.see_alarm(number, at)]
        if unknown:
            raise NotFound(
                RefusalCode.ALARM_UNKNOWN,
                f"there is no alarm {', '.join(map(str, unknown))}; nothing was changed",
            )
    output.tell({"seen": chosen}, f"{len(chosen)} seen", as_json=as_json)
