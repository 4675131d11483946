"""``… dry-run``: which devices would change status before something goes live. Writes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.corim import is_corim
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.moments import parse_moment
from verifier.cli.reference_values import (
    KeepOld,
    Support,
    is_rim,
    read_bounded,
    read_rim,
    read_text,
)
from verifier.errors import RequestRefused
from verifier.reference_values.runtime_policy_file import load_runtime_policy
from verifier.reference_values.toml_file import load_reference_set
from verifier.services.corim_import import CorimImport, CorimTerms
from verifier.services.dry_run import Change, DryRun, Row, Terms, summarise, with_sets
from verifier.services.reference_values import ReferenceShelf, ReferenceValues
from verifier.sources import SystemClock, load_anchors, load_appraisal_policy, policy_named

if TYPE_CHECKING:
    from verifier.settings import Settings
    from verifier.store.sql_store import SqlStore

NOBODY_WORSE, SOMEBODY_WORSE = 0, 1
_EVERY = 100

All = Annotated[bool, typer.Option("--all", help="Show devices whose status stays, too.")]


class _Scene:
    """What is in use, and the tools to look at it."""

    def __init__(self) -> None:
        self.settings: Settings = context.settings()
        self.store: SqlStore = context.store(self.settings)
        self.at: datetime = SystemClock().now()
        self.present = Terms(
            policy=load_appraisal_policy(self.settings),
            reference=ReferenceShelf(self.store).current(self.at),
        )
        self.values = ReferenceValues(self.store, self.present.policy)

    def show(self, proposed: Terms, *, everyone: bool, as_json: bool) -> None:
        """Judge all devices and print; exit 1 if one would be worse."""
        run = DryRun(self.store, load_anchors(self.settings), self.present, proposed)
        rows = list(_with_progress(run.rows(), as_json=as_json))
        counts = summarise(rows)
        shown = [row for row in rows if everyone or row.change is not Change.SAME]
        if as_json:
            output.say_json(
                {"summary": asdict(counts), "devices": [_document(row) for row in shown]}
            )
        else:
            if shown:
                output.say_table(
                    ("device", "change", "now", "then", "why"),
                    [
                        (row.device, row.change, _tier(row.before), _tier(row.after), row.reason)
                        for row in shown
                    ],
                )
            output.say(
                f"{len(rows)} devices: {counts.worse} worse, {counts.better} better, "
                f"{counts.same} the same, {counts.not_judged} not judged. Nothing was changed"
            )
        raise typer.Exit(SOMEBODY_WORSE if counts.worse else NOBODY_WORSE)


def policy_dry_run(
    file: Annotated[
        str, typer.Argument(help="The proposed policy: TOML file, or a packaged policy's name.")
    ],
    *,
    everyone: All = False,
    as_json: Json = False,
) -> None:
    """Say which devices would change status under another policy; exit 1 if one were worse."""
    scene = _Scene()
    proposed = replace(scene.present, policy=policy_named(file))
    scene.show(proposed, everyone=everyone, as_json=as_json)


def reference_values_dry_run(
    file: Annotated[
        Path | None, typer.Argument(readable=False, help="TOML file, signed CoRIM or RIM.")
    ] = None,
    *,
    remove: Annotated[str, typer.Option(help="Instead: as if this set were removed.")] = "",
    keep_old_until: KeepOld = "",
    support: Support = None,
    signer: Annotated[
        Path | None, typer.Option(readable=False, help="CoRIM, RIM: as in import.")
    ] = None,
    unsigned: Annotated[bool, typer.Option(help="CoRIM: as in import.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="CoRIM: as in import.")] = None,
    name: Annotated[str, typer.Option(help="CoRIM, RIM: as in import.")] = "",
    everyone: All = False,
    as_json: Json = False,
) -> None:
    """Say which devices would change status with other reference values; exit 1 if one were worse.

    A FILE is judged as ``import`` would put it in.
    """
    if (file is None) == (not remove):
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "give either FILE or --remove NAME")
    scene = _Scene()
    if file is None:
        sets = scene.values.without(remove)
    else:
        content = read_bounded(file, 8 * 1024 * 1024)
        pinned = (str(signer), read_text(signer)) if signer is not None else None
        if is_rim(content):
            chosen = read_rim(content, support, scene.at, signer=pinned, name=name).sets
        elif is_corim(content):
            terms = CorimTerms(
                signer=pinned, unsigned=unsigned, profiles=frozenset(profile or ()), name=name
            )
            chosen = CorimImport(scene.store, scene.values).read(content, terms, scene.at).sets
        else:
            chosen = (load_reference_set(read_text(file), str(file)),)
        until = parse_moment(keep_old_until, scene.at) if keep_old_until else None
        sets = scene.values.with_these(*chosen, keep_older_until=until)
    proposed = replace(scene.present, reference=with_sets(scene.present.reference, sets, scene.at))
    scene.show(proposed, everyone=everyone, as_json=as_json)


def runtime_policy_dry_run(
    file: Annotated[
        Path, typer.Argument(readable=False, help="The proposed runtime policy (TOML).")
    ],
    *,
    everyone: All = False,
    as_json: Json = False,
) -> None:
    """Say which devices would change status under another runtime policy of the same name."""
    scene = _Scene()
    chosen = load_runtime_policy(read_text(file), str(file))
    present = scene.present.reference
    proposed = replace(
        scene.present,
        reference=replace(present, runtime={**present.runtime, chosen.name: chosen}),
    )
    scene.show(proposed, everyone=everyone, as_json=as_json)


def _with_progress(rows: Iterator[Row], *, as_json: bool) -> Iterator[Row]:
    """Pass rows on, and say on a terminal how far it is."""
    told = sys.stderr.isatty() and not as_json
    for number, row in enumerate(rows, start=1):
        if told and number % _EVERY == 0:
            print(f"\r{number} devices judged", end="", file=sys.stderr, flush=True)
        yield row
    if told:
        print("\r", end="", file=sys.stderr)


def _tier(tier: TrustTier | None) -> str:
    return tier.label if tier is not None else "-"


def _document(row: Row) -> dict[str, object]:
    return {
        "device": row.device,
        "change": row.change.value,
        "now": row.before.label if row.before is not None else None,
        "then": row.after.label if row.after is not None else None,
        "reason": row.reason,
    }
