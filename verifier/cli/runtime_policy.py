"""``verifier runtime-policy``: learn, review, compare, try and keep runtime policies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attestation.limits import MAX_IMA_LIST_BYTES
from attestation.logs.ima.aggregate import BOOT_AGGREGATE
from attestation.logs.ima.measured import parse_ima_list
from attestation.logs.ima.template import path_of
from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.appraisal.runtime_ledger import AGGREGATE_NOT_QUOTED, Ledger, told
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded
from verifier.errors import RequestRefused
from verifier.ports import DocumentKind
from verifier.reference_values.runtime_learn import (
    compare_runtime_policies,
    learn_runtime_policy,
)
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.reference_values.runtime_policy_file import (
    MAX_RUNTIME_POLICY_CHARS,
    load_runtime_policy,
)
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.runtime_policies import proven_list
from verifier.sources import SystemClock

runtime_policy = typer.Typer(no_args_is_help=True, help="What devices may run.")

Name = Annotated[str, typer.Argument(help="Name of the policy.")]
PolicyFile = Annotated[Path, typer.Argument(readable=False, help="Runtime policy, TOML.")]

_KIND = DocumentKind.RUNTIME_POLICY


def _documents() -> ReferenceDocuments:
    return ReferenceDocuments(context.store(context.settings()))


def _read(path: Path) -> tuple[str, RuntimePolicy]:
    """Return a policy's text and the policy."""
    content = read_bounded(path, 4 * MAX_RUNTIME_POLICY_CHARS)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path} is not UTF-8 text") from error
    return text, load_runtime_policy(text, str(path))


@runtime_policy.command()
def learn(
    sources: Annotated[
        list[str], typer.Argument(help="IMA lists (files), or ids of enrolled devices.")
    ],
    *,
    name: Annotated[str, typer.Option(help="Name of the policy.")],
) -> None:
    """Print a policy that allows what good machines have measured; review it before it is added."""
    lists: list[tuple[str, bytes]] = []
    for source in sources:
        path = Path(source)
        if "/" in source or path.exists():
            lists.append((source, read_bounded(path, MAX_IMA_LIST_BYTES)))
        else:
            store = context.store(context.settings())
            lists.append((f"device {source}", proven_list(store, source)))
    sys.stdout.write(learn_runtime_policy(name, lists))


@runtime_policy.command()
def diff(first: PolicyFile, second: PolicyFile, *, as_json: Json = False) -> None:
    """Say what the second policy allows otherwise. Exit code 0 alike, 1 different."""
    found = compare_runtime_policies(_read(first)[1], _read(second)[1])
    if as_json:
        output.say_json(found.document())
    for line in () if as_json else found.sentences():
        output.say(line)
    raise typer.Exit(1 if found else 0)


@runtime_policy.command()
def check(
    file: PolicyFile,
    ima_list: Annotated[Path, typer.Argument(readable=False, help="An IMA list, ascii or binary.")],
    *,
    as_json: Json = False,
) -> None:
    """Hold a list against a policy, without a quote. Exit code 0 clean, 1 not, 2 malformed."""
    policy = _read(file)[1]
    measured = parse_ima_list(read_bounded(ima_list, MAX_IMA_LIST_BYTES))
    ledger = Ledger(policy, {}, None)
    for number, entry in enumerate(measured):
        ledger.judge(number, entry)
    ledger.settle({})
    counts = {code: n for code, n in ledger.counts.items() if code != AGGREGATE_NOT_QUOTED}
    samples = dict(ledger.samples)
    if all(path_of(entry.template, entry.data) == BOOT_AGGREGATE for entry in measured):
        missing = str(RefusalCode.IMA_LIST_MISSING)
        counts[missing], samples[missing] = 1, ("the list measures no file",)
    if as_json:
        output.say_json(
            {
                "policy": policy.id,
                "entries": measured.count,
                "counts": counts,
                "samples": {code: list(samples[code]) for code in counts},
            }
        )
    else:
        output.say(f"{measured.count} entries against {policy.id}; nothing is proven without quote")
        for code, number in counts.items():
            output.say(f"{code}: {number}: {told(code, counts, samples)}")
        if not counts:
            output.say("ok: every entry is as the policy says")
    raise typer.Exit(1 if counts else 0)


@runtime_policy.command()
def add(file: PolicyFile, *, as_json: Json = False) -> None:
    """Add a policy; one of the same name is replaced, and devices send their lists whole again."""
    text, policy = _read(file)
    made = _documents().put(_KIND, policy.name, text, SystemClock().now())
    output.tell(
        {"name": made.name, "policy": policy.id, "stored": made.version},
        f"added {policy.id}: {policy.description}",
        as_json=as_json,
    )


@runtime_policy.command("list")
def list_policies(*, as_json: Json = False) -> None:
    """List the policies."""
    found = _documents().list(_KIND)
    if as_json:
        output.say_json(
            [
                {"name": one.name, "stored": one.version, "created": moment(one.created_at)}
                for one in found
            ]
        )
        return
    rows = [(one.name, one.version, moment(one.created_at)) for one in found]
    output.say_table(("name", "stored", "created"), rows)


@runtime_policy.command()
def show(name: Name) -> None:
    """Print a policy as TOML, to be read, changed and added."""
    sys.stdout.write(_documents().get(_KIND, name).document)


@runtime_policy.command()
def remove(name: Name, *, as_json: Json = False) -> None:
    """Remove a policy; devices that are held against it are no longer clean."""
    _documents().remove(_KIND, name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)
