"""``verifier reference-values``."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.limits import MAX_CORIM_BYTES, MAX_FIRMWARE_LOG_BYTES, MAX_RIM_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.corim import is_corim
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.moments import parse_moment
from verifier.errors import RequestRefused
from verifier.reference_values.difference import differences
from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set
from verifier.services.corim_import import CorimImport, CorimTerms, ReadCorim
from verifier.services.reference_values import ReferenceValues
from verifier.sources import SystemClock, load_appraisal_policy

if TYPE_CHECKING:
    from verifier.services.rim_import import ReadRim

reference_values = typer.Typer(no_args_is_help=True, help="What known-good devices measure.")

_MAX_FILE_BYTES = 8 * 1024 * 1024

Name = Annotated[str, typer.Argument(help="Name of the set; NAME/VERSION for an earlier one.")]
KeepOld = Annotated[
    str,
    typer.Option(
        "--keep-old-until",
        help="Accept earlier versions beside it until then: 2026-06-01 or 7d. Without: replaced.",
    ),
]

Support = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False, help="RIM: a file that the base RIM names, e.g. its event log; repeatable."
    ),
]


def _service() -> ReferenceValues:
    settings = context.settings()
    return ReferenceValues(context.store(settings), load_appraisal_policy(settings))


def _corims() -> CorimImport:
    settings = context.settings()
    store = context.store(settings)
    return CorimImport(store, ReferenceValues(store, load_appraisal_policy(settings)))


def _document(chosen: ReferenceSet, at: datetime) -> dict[str, object]:
    def when(value: datetime | None) -> str | None:
        return moment(value) if value is not None else None

    return {
        "name": chosen.name,
        "version": chosen.version,
        "created": moment(chosen.created),
        "description": chosen.description,
        "in_force": chosen.in_force(at),
        "valid_from": when(chosen.valid_from),
        "valid_until": when(chosen.valid_until),
        "accepted_until": when(chosen.accepted_until),
        "reviewed_by": chosen.reviewed_by,
        "reviewed_at": when(chosen.reviewed_at),
        "to_review": sorted(chosen.to_review),
        "pcrs": {bank.label: sorted(values) for bank, values in chosen.pcrs.items()},
        "events": len(chosen.events),
    }


def _tell(
    chosen: ReferenceSet, did: str, *, before: ReferenceSet | None = None, as_json: bool
) -> None:
    """Say what was done, and how the set differs from the version before it."""
    at = SystemClock().now()
    if as_json:
        output.say_json(_document(chosen, at))
        return
    output.say(f"{did} {chosen.id}: {chosen.description}")
    if before is not None:
        lines = differences(before, chosen)
        output.say(f"against {before.id}:" if lines else f"accepts the same as {before.id}")
        for line in lines:
            output.say(line)
    if chosen.to_review:
        output.say(
            f"not reviewed yet: PCR {_listed(chosen.to_review)}. Look at it with: verifier "
            f"reference-values show {chosen.name!r}; then: review {chosen.name!r} --by WHO"
        )


def _until(text: str, at: datetime) -> datetime | None:
    return parse_moment(text, at) if text else None


def _listed(pcrs: frozenset[int]) -> str:
    return ", ".join(str(pcr) for pcr in sorted(pcrs))


@reference_values.command()
def learn(
    *,
    name: Annotated[str, typer.Option(help="Name of the set; an existing one is replaced.")],
    device: Annotated[str, typer.Option(help="Learn from this device's last evidence.")] = "",
    eventlog: Annotated[
        Path | None, typer.Option(readable=False, help="Learn from a firmware log.")
    ] = None,
    keep_old_until: KeepOld = "",
    as_json: Json = False,
) -> None:
    """Learn a set from a device that is known to be good, or from a firmware log."""
    if bool(device) == (eventlog is not None):
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, "give either --device ID or --eventlog FILE"
        )
    service, at = _service(), SystemClock().now()
    until, before = _until(keep_old_until, at), service.newest(name)
    if eventlog is not None:
        content = read_bounded(eventlog, MAX_FIRMWARE_LOG_BYTES)
        chosen = service.learn_log(content, name, at, until)
    else:
        chosen = service.learn_device(device, name, at, until)
    _tell(chosen, "learnt", before=before, as_json=as_json)


@reference_values.command("from-log")
def from_log(
    file: Annotated[
        Path, typer.Argument(readable=False, help="Firmware log, e.g. of a support RIM.")
    ],
    *,
    name: Annotated[str, typer.Option(help="Name of the set.")],
    keep_old_until: KeepOld = "",
    as_json: Json = False,
) -> None:
    """Compute a set from an event log: the values that its events lead to."""
    service, at = _service(), SystemClock().now()
    content, before = read_bounded(file, MAX_FIRMWARE_LOG_BYTES), service.newest(name)
    chosen = service.learn_log(content, name, at, _until(keep_old_until, at))
    _tell(chosen, "computed", before=before, as_json=as_json)


@reference_values.command("import")
def import_set(
    file: Annotated[
        Path,
        typer.Argument(
            readable=False, help="TOML file, CoRIM (CBOR), or base RIM of a PC Client (SWID tag)."
        ),
    ],
    *,
    keep_old_until: KeepOld = "",
    support: Support = None,
    signer: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="CoRIM, RIM: PEM key or certificate that must have signed it."
        ),
    ] = None,
    unsigned: Annotated[bool, typer.Option(help="CoRIM: take one that nobody signed.")] = False,
    profile: Annotated[
        list[str] | None, typer.Option(help="CoRIM: a profile that changes nothing.")
    ] = None,
    name: Annotated[str, typer.Option(help="CoRIM, RIM: the set's name.")] = "",
    as_json: Json = False,
) -> None:
    """Import a set; one of the same name is replaced, or kept for a while."""
    at = SystemClock().now()
    until, content = _until(keep_old_until, at), read_bounded(file, _MAX_FILE_BYTES)
    pinned = (str(signer), read_text(signer)) if signer is not None else None
    found: ReadCorim | ReadRim
    if is_rim(content):
        if unsigned or profile:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID, f"{file} is a base RIM; options of CoRIMs do not apply"
            )
        found = read_rim(content, support, at, signer=pinned, name=name)
    elif support:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, f"{file} is no base RIM; --support does not apply"
        )
    elif is_corim(content):
        terms = CorimTerms(
            signer=pinned, unsigned=unsigned, profiles=frozenset(profile or ()), name=name
        )
        found = _corims().read(content[: MAX_CORIM_BYTES + 1], terms, at)
    else:
        if signer is not None or unsigned or profile or name:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID,
                f"{file} is neither a CoRIM nor a base RIM; their options do not apply",
            )
        _import_toml(_text(content, file), file, until, as_json=as_json)
        return
    _import_found(found, until, as_json=as_json)


def _import_toml(text: str, file: Path, until: datetime | None, *, as_json: bool) -> None:
    service, chosen = _service(), load_reference_set(text, str(file))
    before = service.newest(chosen.name)
    service.put(chosen, keep_older_until=until)
    _tell(chosen, "imported", before=before, as_json=as_json)


def _import_found(found: ReadCorim | ReadRim, until: datetime | None, *, as_json: bool) -> None:
    service = _service()
    for notice in found.notices:
        print(f"note: {notice}", file=sys.stderr)
    if not found.signer:
        print("WARNING: nobody signed this CoRIM; you alone vouch for it", file=sys.stderr)
    older = [service.newest(one.name) for one in found.sets]
    service.put(*found.sets, keep_older_until=until)
    if as_json:
        output.say_json([_document(one, SystemClock().now()) for one in found.sets])
        return
    for one, earlier in zip(found.sets, older, strict=True):
        _tell(one, "imported", before=earlier, as_json=False)


def is_rim(content: bytes) -> bool:
    """Whether a file looks like XML, as a base RIM does; TOML and CBOR never do."""
    return content[:16].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def read_rim(
    content: bytes,
    support: list[Path] | None,
    at: datetime,
    *,
    signer: tuple[str, str] | None,
    name: str = "",
) -> ReadRim:
    """Read a base RIM with its support files; raises as :meth:`RimImport.read`."""
    # Only who reads a RIM pays for the XML library.
    from verifier.services.rim_import import RimImport  # noqa: PLC0415

    settings = context.settings()
    store, policy = context.store(settings), load_appraisal_policy(settings)
    files = {str(path): read_bounded(path, MAX_FIRMWARE_LOG_BYTES) for path in support or ()}
    service = RimImport(store, ReferenceValues(store, policy), policy)
    return service.read(content[: MAX_RIM_BYTES + 1], files, at, signer=signer, name=name)


@reference_values.command()
def export(name: Name) -> None:
    """Print a set as TOML, to be read, changed and imported."""
    sys.stdout.write(dump_reference_set(_service().named(name)))


@reference_values.command("list")
def list_sets(*, as_json: Json = False) -> None:
    """List the sets, every version of them."""
    found, at = _service().names(), SystemClock().now()
    if as_json:
        output.say_json([_document(chosen, at) for chosen in found])
        return
    rows = [
        (one.name, one.version, _state(one, at), moment(one.created), one.description)
        for one in found
    ]
    output.say_table(("name", "version", "state", "created", "description"), rows)


def _state(chosen: ReferenceSet, at: datetime) -> str:
    if chosen.valid_from is not None and at < chosen.valid_from:
        return f"from {moment(chosen.valid_from)}"
    if not chosen.in_force(at):
        return "ended"
    until = f" until {moment(chosen.ends)}" if chosen.ends is not None else ""
    return f"{'in force' if chosen.reviewed else 'not reviewed'}{until}"


@reference_values.command()
def show(name: Name, *, as_json: Json = False) -> None:
    """Show a set: its time, its review, its values and events, and what is new in it."""
    service, at = _service(), SystemClock().now()
    chosen = service.named(name)
    if as_json:
        output.say_json(_document(chosen, at))
        return
    output.say(f"{chosen.id}: {_state(chosen, at)}; {chosen.description}")
    if chosen.reviewed_by and chosen.reviewed_at is not None:
        output.say(f"reviewed by {chosen.reviewed_by} at {moment(chosen.reviewed_at)}")
    earlier = service.earlier(chosen)
    if earlier is not None:
        lines = differences(earlier, chosen)
        output.say(f"against {earlier.id}:" if lines else f"accepts the same as {earlier.id}")
        for line in lines:
            output.say(line)
        output.say("")
    for bank, values in sorted(chosen.pcrs.items()):
        for index, accepted in sorted(values.items()):
            mark = "  (to review)" if index in chosen.to_review else ""
            shown = " or ".join(value.hex() for value in sorted(accepted))
            output.say(f"PCR {index} ({bank.label}): {shown}{mark}")
    for index, digest in sorted(chosen.events):
        output.say(f"PCR {index} event {digest.hex()} {chosen.labels.get((index, digest), '')}")


@reference_values.command()
def diff(
    older: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    newer: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    *,
    as_json: Json = False,
) -> None:
    """Say in words what differs between two sets; exit 1 if anything does."""
    service = _service()
    lines = differences(service.named(older), service.named(newer))
    if as_json:
        output.say_json(list(lines))
    else:
        for line in lines:
            output.say(line)
        if not lines:
            output.say("both accept the same")
    raise typer.Exit(int(bool(lines)))


@reference_values.command()
def review(
    name: Name,
    *,
    by: Annotated[str, typer.Option(help="Who has looked at it.")],
    pcr: Annotated[list[int] | None, typer.Option(help="Only this PCR; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Note that a person has looked at what was learnt and found it right."""
    service = _service()
    chosen = service.review(name, by, SystemClock().now(), frozenset(pcr) if pcr else None)
    _tell(chosen, f"reviewed by {chosen.reviewed_by}:", as_json=as_json)


@reference_values.command()
def remove(name: Name, *, as_json: Json = False) -> None:
    """Remove a set with all its versions; devices that matched it will match nothing."""
    _service().remove(name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)


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
    return _text(read_bounded(path, _MAX_FILE_BYTES), path)


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path} is not UTF-8 text") from error
