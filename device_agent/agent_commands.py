"""``device-agent agent``: identities of the AI agents on this device."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attestation.capabilities import VALIDATION_METHODS, canonical, require_locator
from attestation.errors import InputError
from attestation.identity import AgentName, agent_name
from attestation.limits import MAX_ENDORSEMENT_BYTES, MAX_OWNER_BINDING_CHARS
from device_agent.clock import wall_clock
from device_agent.errors import AgentRefused, SettingsInvalid
from device_agent.printing import say, table
from device_agent.settings import Settings

if TYPE_CHECKING:
    from attestation.wire.owner_binding import BindingRequest
    from device_agent.agents import AgentRecord, Wish
    from device_agent.state.agents import AgentShelf
    from device_agent.tending import AgentTender

OK: Final = 0
UNFINISHED: Final = 1
_LOOKED_EVERY_S: Final = 0.2

# The adapters behind each command are imported inside it: ``--help`` must not pay for the TPM
# stack, TLS and cryptography.
# ruff: noqa: PLC0415


def add_agent(parser: argparse.ArgumentParser) -> None:
    """Add the commands for AI agents to the command's parser."""
    steps = parser.add_subparsers(required=True, metavar="STEP")
    add = steps.add_parser("add", help="make an agent's key and get its certificate and token")
    renew = steps.add_parser("renew", help="renew an agent's certificate now, with the same key")
    remove = steps.add_parser("remove", help="remove an agent, its key and its certificate")
    listed = steps.add_parser("list", help="show the agents of this device")
    for step in (add, renew, remove):
        step.add_argument("name", metavar="NAME", help="its name on this device")
    for step in (add, renew):
        step.add_argument(
            "--scope",
            action="append",
            metavar="WORD",
            help="what it may do; several, or once with commas between them",
        )
        step.add_argument("--locator", metavar="URI", help="where it is reached")
        step.add_argument(
            "--validation",
            action="append",
            metavar="WORD",
            help="how a registry may have it prove itself; like --scope",
        )
        step.add_argument("--group", help="group that may read its certificate and token")
        step.add_argument(
            "--owner-binding", type=Path, metavar="FILE", help="what its owner signed"
        )
        step.add_argument(
            "--binding-request",
            type=Path,
            metavar="FILE",
            help="where to write what its owner has to sign",
        )
        step.add_argument(
            "--provider-endorsement",
            type=Path,
            metavar="FILE",
            help="its provider's endorsement of the AIBOM (DSSE)",
        )
        step.add_argument(
            "--wait",
            type=float,
            default=60.0,
            metavar="S",
            help="seconds to wait for a daemon that runs (60)",
        )
    for step, command in ((add, _add), (renew, _renew), (remove, _remove), (listed, _list)):
        step.add_argument("--json", action="store_true", help="print JSON")
        step.set_defaults(command=command)


def _add(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.agents import Wish

    name, wish = _name(options.name), _wish(options)(Wish())
    return _said(settings, options, lambda tender: tender.add(name, wish))


def _renew(settings: Settings, options: argparse.Namespace) -> int:
    name, wish = _name(options.name), _wish(options)
    return _said(settings, options, lambda tender: tender.renew(name, wish))


def _said(
    settings: Settings,
    options: argparse.Namespace,
    step: Callable[[AgentTender], AgentRecord | BindingRequest],
) -> int:
    """Do one step, and say what came of it or what its owner has to do."""
    from attestation.wire.owner_binding import BindingRequest
    from device_agent.agents_kept import agent_shelf
    from device_agent.main import open_tpm
    from device_agent.once import agents_tender
    from device_agent.state.files import StateHeld

    with closing(open_tpm(settings)) as tpm, agents_tender(settings, tpm) as (store, tender):
        done = step(tender)
        if isinstance(done, BindingRequest):
            return _awaits_owner(options, done)
        try:
            store.claim()
        except StateHeld:
            done = _wait_for_daemon(agent_shelf(settings), done, options.wait)
        else:
            try:
                done = tender.enrol(done.name)
            finally:
                store.release()
    if done.certified is None or done.asked:
        said = {**_document(done), "complete": False}
        say(options, said, f"asked for {done.name}; the daemon gets it with its next attestation")
        return UNFINISHED
    place = agent_shelf(settings).place(done.name)
    until = done.certified.not_after.isoformat(timespec="seconds")
    words = f"{done.certified.agent_id}\ncertificate until {until} and token in {place}"
    say(options, {**_document(done), "folder": str(place)}, words)
    return OK


def _wait_for_daemon(shelf: AgentShelf, asked: AgentRecord, wait_s: float) -> AgentRecord:
    """Wait until the daemon, which attests for this device now, has got the certificate.

    Raises:
        AgentRefused: If it could not.
    """
    ends = time.monotonic() + wait_s
    record = asked
    while time.monotonic() < ends:
        time.sleep(_LOOKED_EVERY_S)
        record = shelf.load(asked.name)
        if record.fault is not None:
            raise AgentRefused(record.fault.code, record.fault.reason)
        if not record.asked:
            break
    return record


def _awaits_owner(options: argparse.Namespace, request: BindingRequest) -> int:
    from attestation.wire.owner_binding import binding_request_text

    path: Path = options.binding_request or Path(f"{options.name}.binding-request.json")
    try:
        path.write_text(binding_request_text(request), encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be written: {error.strerror}") from error
    following = (
        f"let the owner sign {path} (verifier owners bind), then: device-agent agent add "
        f"{options.name} --owner-binding FILE, with the same options"
    )
    said = {"agent_id": request.holder, "complete": False, "binding_request": str(path)}
    say(
        options,
        {**said, "next": following},
        f"{request.holder} is not enrolled yet\n-> {following}",
    )
    return UNFINISHED


def _remove(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.agents_kept import agent_shelf
    from device_agent.tending import remove_agent

    name = _name(options.name)
    record = remove_agent(agent_shelf(settings), name)
    certified = record.certified if record is not None else None
    said: dict[str, object] = {"agent": name, "removed": True}
    words = f"removed {name} and its key"
    if certified is not None:
        until = certified.not_after.isoformat(timespec="seconds")
        said |= {"agent_id": certified.agent_id, "not_after": until}
        words += (
            f"\nits certificate is in force until {until}: nobody can use it without the key, and "
            "the verifier's operator can revoke it"
        )
    say(options, said, words)
    return OK


def _list(settings: Settings, options: argparse.Namespace) -> int:
    from device_agent.agents import troubles
    from device_agent.agents_kept import agent_shelf
    from device_agent.tending import records_of

    records = records_of(agent_shelf(settings))
    rows: list[tuple[str, str]] = []
    for record in records:
        certified = record.certified
        if certified is None:
            rows.append((record.name, "not enrolled yet"))
            continue
        until, renewal = (
            moment.isoformat(timespec="seconds")
            for moment in (certified.not_after, certified.renew_at)
        )
        rows.append((record.name, f"{certified.agent_id}, until {until}, renewal {renewal}"))
    rows += [("WARNING", trouble) for trouble in troubles(records, wall_clock())]
    none = "no agents; device-agent agent add NAME"
    say(options, [_document(record) for record in records], table(rows) if rows else none)
    return OK


def _document(record: AgentRecord) -> dict[str, object]:
    certified, fault = record.certified, record.fault
    document: dict[str, object] = {
        "agent": record.name,
        "complete": certified is not None,
        "key": record.thumbprint,
        "scope": list(record.wish.capabilities),
        "fault": None if fault is None else {"code": str(fault.code), "reason": fault.reason},
    }
    if certified is not None:
        document |= {
            "agent_id": certified.agent_id,
            "owner": certified.owner or None,
            "capabilities": list(certified.capabilities),
            "not_after": certified.not_after.isoformat(),
            "renew_at": certified.renew_at.isoformat(),
            "token_expires_at": certified.token_expires_at.isoformat(),
        }
    return document


# --- what was typed ----------------------------------------------------------------------------
def _name(text: str) -> AgentName:
    try:
        return agent_name(text)
    except InputError as error:
        raise SettingsInvalid(error.reason) from error


def _wish(options: argparse.Namespace) -> Callable[[Wish], Wish]:
    """Return what changes what an agent asks for into what was typed; what was not stays."""
    from device_agent.state.agents import group_number

    typed = options
    try:
        scope = None if typed.scope is None else canonical(_words(typed.scope))
        methods = (
            None
            if typed.validation is None
            else canonical(_words(typed.validation), kind=VALIDATION_METHODS)
        )
        if typed.locator:
            require_locator(typed.locator)
    except InputError as error:
        raise SettingsInvalid(error.describe()) from error
    group_number(typed.group or "")
    binding = None
    if typed.owner_binding is not None:
        content = _read(typed.owner_binding, MAX_OWNER_BINDING_CHARS)
        binding = _text(content, typed.owner_binding)
    endorsement = None
    if typed.provider_endorsement is not None:
        endorsement = _read(typed.provider_endorsement, MAX_ENDORSEMENT_BYTES)

    def changed(wish: Wish) -> Wish:
        return replace(
            wish,
            capabilities=wish.capabilities if scope is None else scope,
            validation_methods=wish.validation_methods if methods is None else methods,
            locator=wish.locator if typed.locator is None else typed.locator,
            group=wish.group if typed.group is None else typed.group,
            owner_binding=wish.owner_binding if binding is None else binding,
            provider_endorsement=wish.provider_endorsement if endorsement is None else endorsement,
        )

    return changed


def _words(typed: Iterable[str]) -> list[str]:
    return [word for text in typed for word in text.split(",") if word]


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{path} is no owner's binding: not ASCII") from error


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise SettingsInvalid(f"{path} is larger than {most} bytes")
    return content
