"""``verifier reference-values``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attestation.limits import MAX_FIRMWARE_LOG_BYTES
from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.errors import RequestRefused
from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set
from verifier.services.reference_values import ReferenceValues
from verifier.sources import SystemClock, load_appraisal_policy

reference_values = typer.Typer(no_args_is_help=True, help="What known-good devices measure.")

Name = Annotated[str, typer.Argument(help="Name of the set.")]


def _service() -> ReferenceValues:
    settings = context.settings()
    return ReferenceValues(context.store(settings), load_appraisal_policy(settings))


def _document(chosen: ReferenceSet) -> dict[str, object]:
    return {
        "name": chosen.name,
        "version": chosen.version,
        "created": moment(chosen.created),
        "description": chosen.description,
        "pcrs": {bank.label: sorted(values) for bank, values in chosen.pcrs.items()},
        "events": len(chosen.events),
    }


def _tell(chosen: ReferenceSet, did: str, *, as_json: bool) -> None:
    if as_json:
        output.say_json(_document(chosen))
    else:
        output.say(f"{did} {chosen.id}: {chosen.description}")


@reference_values.command()
def learn(
    *,
    name: Annotated[str, typer.Option(help="Name of the set; an existing one is replaced.")],
    device: Annotated[str, typer.Option(help="Learn from this device's last evidence.")] = "",
    eventlog: Annotated[Path | None, typer.Option(help="Learn from a firmware log.")] = None,
    as_json: Json = False,
) -> None:
    """Learn a set from a device that is known to be good, or from a firmware log."""
    if bool(device) == (eventlog is not None):
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, "give either --device ID or --eventlog FILE"
        )
    service, at = _service(), SystemClock().now()
    if eventlog is not None:
        content = read_bounded(eventlog, MAX_FIRMWARE_LOG_BYTES)
        chosen = service.learn_log(content, name, at)
    else:
        chosen = service.learn_device(device, name, at)
    _tell(chosen, "learnt", as_json=as_json)


@reference_values.command("import")
def import_set(
    file: Annotated[Path, typer.Argument(help="TOML file.")], *, as_json: Json = False
) -> None:
    """Import a set; one of the same name is replaced."""
    chosen = load_reference_set(read_text(file), str(file))
    _service().put(chosen)
    _tell(chosen, "imported", as_json=as_json)


@reference_values.command()
def export(name: Name) -> None:
    """Print a set as TOML, to be read, changed and imported."""
    sys.stdout.write(dump_reference_set(_service().named(name)))


@reference_values.command("list")
def list_sets(*, as_json: Json = False) -> None:
    """List the sets."""
    found = _service().names()
    if as_json:
        output.say_json([_document(chosen) for chosen in found])
        return
    rows = [(one.name, one.version, moment(one.created), one.description) for one in found]
    output.say_table(("name", "version", "created", "description"), rows)


@reference_values.command()
def remove(name: Name, *, as_json: Json = False) -> None:
    """Remove a set; devices that matched it will match nothing."""
    _service().remove(name)
    if as_json:
        output.say_json({"name": name, "removed": True})
    else:
        output.say(f"removed {name}")


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        RequestRefused: If it cannot be read or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path}: {error.strerror}") from error
    if len(content) > limit:
        raise RequestRefused(RefusalCode.TOO_LARGE, f"{path} is larger than {limit} bytes")
    return content


def read_text(path: Path) -> str:
    """Read a text file of at most 8 MiB.

    Raises:
        RequestRefused: If it cannot be read, is larger, or is not UTF-8.
    """
    try:
        return read_bounded(path, 8 * 1024 * 1024).decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path} is not UTF-8 text") from error
