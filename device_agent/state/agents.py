"""The folder of AI agents: for each a record with its wrapped key, its certificate and its token.

::

    STATE/agents/NAME/agent.json                  0600: the record; the key in it is of use in this
                                                  TPM only
    STATE/agents/NAME/provider-endorsement.json   0600
    FOLDER/NAME/certificate.pem, token            0600, or 0640 for the agent's group

``FOLDER`` is the setting ``agents.folder``, or else ``STATE/agents``, where nobody but the daemon
comes. Each file is replaced whole or not at all. A lock keeps daemon and commands apart.
"""

from __future__ import annotations

import base64
import fcntl
import grp
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from attestation.capabilities import VALIDATION_METHODS, require_canonical
from attestation.errors import InputError
from attestation.identity import AgentName, agent_name
from attestation.limits import MAX_ENDORSEMENT_BYTES
from attestation.tpm.public import parse_public
from device_agent.agents import AgentRecord, Certified, Wish
from device_agent.errors import AgentUnknown, SettingsInvalid, StateCorrupt, StateUnwritable
from device_agent.ports import WrappedKey
from device_agent.state.documents import (
    digest_of,
    fault_in,
    fault_out,
    moment_in,
    replace_durably,
)
from device_agent.state.files import StateHeld

VERSION: Final = 1
AGENTS: Final = "agents"
RECORD: Final = "agent.json"
CERTIFICATE: Final = "certificate.pem"
TOKEN: Final = "token"  # noqa: S105 - a file's name
_ENDORSEMENT: Final = "provider-endorsement.json"
_LOCK_NAME: Final = ".lock"
_MOST_BYTES: Final = 1024 * 1024
_LOOKED_EVERY_S: Final = 0.05
_FOR_GROUP: Final = 0o640
_FOR_NOBODY: Final = 0o600


class AgentShelf:
    """The folder of one device's AI agents.

    Args:
        state: The daemon's state directory.
        folder: Where certificates and tokens are put; None for beside the records.
    """

    def __init__(self, state: Path, folder: Path | None = None) -> None:
        self._records = state / AGENTS
        self._folder = folder or self._records

    @contextmanager
    def held(self, wait_s: float = 0) -> Iterator[None]:
        """Keep daemon and commands apart while the context lasts.

        Raises:
            StateHeld: If another has it, and has it still after so many seconds.
            StateUnwritable: If the folder cannot be made.
        """
        try:
            self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._records / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(self._records, error) from error
        try:
            self._wait_for(lock, time.monotonic() + wait_s)
            yield
        finally:
            os.close(lock)

    def _wait_for(self, lock: int, until_s: float) -> None:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() >= until_s:
                    raise StateHeld(
                        f"another device-agent is at work in {self._records}; try again"
                    ) from error
                time.sleep(_LOOKED_EVERY_S)
            else:
                return

    def names(self) -> tuple[AgentName, ...]:
        """Return the agents that have a record, by name.

        Raises:
            StateUnwritable: If the folder may not be read.
        """
        try:
            found = [path.parent.name for path in self._records.glob(f"*/{RECORD}")]
        except OSError as error:
            raise _unwritable(self._records, error) from error
        return tuple(sorted(name for text in found if (name := _named(text))))

    def load(self, name: AgentName) -> AgentRecord:
        """Read an agent's record.

        Raises:
            AgentUnknown: If there is none.
            StateCorrupt: If it is damaged.
            StateUnwritable: If it may not be read.
        """
        path = self._records / name / RECORD
        content = self._read(path, _MOST_BYTES)
        if content is None:
            raise AgentUnknown(
                f"no agent {name} on this device; device-agent agent list shows those that are"
            )
        endorsement = self._read(path.with_name(_ENDORSEMENT), MAX_ENDORSEMENT_BYTES)
        record = decode_record(content, endorsement or b"", str(path))
        if record.name != name:
            raise StateCorrupt(f"{path} is the record of {record.name}")
        return record

    def save(self, record: AgentRecord) -> None:
        """Write an agent's record, and put certificate and token where they belong.

        Raises:
            SettingsInvalid: If its group is not there.
            StateUnwritable: If something cannot be written; what was there is then whole.
        """
        home = self._records / record.name
        try:
            self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
            if record.wish.provider_endorsement:
                replace_durably(home / _ENDORSEMENT, record.wish.provider_endorsement)
            else:
                (home / _ENDORSEMENT).unlink(missing_ok=True)
            replace_durably(home / RECORD, encode_record(record))
        except OSError as error:
            raise _unwritable(home, error) from error
        self.put_out(record)

    def put_out(self, record: AgentRecord) -> None:
        """Put certificate and token where the agent finds them; does nothing if they are there.

        Raises:
            SettingsInvalid: If its group is not there.
            StateUnwritable: If something cannot be written.
        """
        certified = record.certified
        if certified is None:
            return
        place = self.place(record.name)
        group = group_number(record.wish.group)
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if place.parent != self._records and group != -1:
                os.chown(place, -1, group)
                place.chmod(0o750)
            mode = _FOR_NOBODY if group == -1 else _FOR_GROUP
            for name, text in (
                (CERTIFICATE, certified.certificate_chain_pem),
                (TOKEN, certified.token),
            ):
                if not _is(place / name, text.encode(), mode):
                    replace_durably(place / name, text.encode(), mode=mode, group=group)
        except PermissionError as error:
            raise StateUnwritable(
                f"{place} cannot be given to group {record.wish.group or '-'}: {error.strerror}; "
                "the daemon's user must be in that group, and own the folder"
            ) from error
        except OSError as error:
            raise _unwritable(place, error) from error

    def place(self, name: AgentName) -> Path:
        """Return where an agent finds its certificate and token."""
        return self._folder / name

    def remove(self, name: AgentName) -> None:
        """Remove all that is kept of an agent; its key is gone with it.

        Raises:
            StateUnwritable: If something cannot be removed.
        """
        home = self._records / name
        try:
            # The record first: half-removed, the agent is gone, not half there.
            (home / RECORD).unlink(missing_ok=True)
            for folder in (home, self.place(name)):
                if folder.is_dir():
                    shutil.rmtree(folder)
        except OSError as error:
            raise _unwritable(home, error) from error

    def _read(self, path: Path, most: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                content = file.read(most + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnwritable(f"{path} cannot be read: {error.strerror}") from error
        if len(content) > most:
            raise StateCorrupt(f"{path} is larger than {most} bytes")
        return content


def group_number(name: str) -> int:
    """Return a group's number; -1 for the empty name.

    Raises:
        SettingsInvalid: If there is no such group.
    """
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise SettingsInvalid(f"there is no group {name!r} on this machine") from error


def _named(text: str) -> AgentName | None:
    try:
        return agent_name(text)
    except InputError:
        return None


def _is(path: Path, content: bytes, mode: int) -> bool:
    """Say whether a file is there already, with this content and mode."""
    try:
        return path.stat().st_mode & 0o777 == mode and path.read_bytes() == content
    except OSError:
        return False


def _unwritable(path: Path, error: OSError) -> StateUnwritable:
    return StateUnwritable(
        f"{path} cannot be used: {error.strerror}; free space, or give it to the daemon's user"
    )


def encode_record(record: AgentRecord) -> bytes:
    """Return the record's bytes: ``{"version", "digest", "agent"}``."""
    wish, certified = record.wish, record.certified
    body = {
        "name": record.name,
        "key": {
            "public": base64.b64encode(record.key.public).decode(),
            "wrapped": base64.b64encode(record.key.private).decode(),
        },
        "capabilities": list(wish.capabilities),
        "locator": wish.locator,
        "validation_methods": list(wish.validation_methods),
        "group": wish.group,
        "owner_binding": wish.owner_binding,
        "certified": None if certified is None else _certified_out(certified),
        "asked": record.asked,
        "failures": record.failures,
        "retry_at": None if record.retry_at is None else record.retry_at.isoformat(),
        "fault": None if record.fault is None else fault_out(record.fault),
    }
    document = {"version": VERSION, "digest": digest_of(body), "agent": body}
    return json.dumps(document, indent=1).encode() + b"\n"


def decode_record(content: bytes, endorsement: bytes, place: str) -> AgentRecord:
    """Read a record's bytes.

    Raises:
        StateCorrupt: If anything about it is not what :func:`encode_record` writes.
    """
    try:
        document = json.loads(content)
        version, body = document["version"], document["agent"]
        if version != VERSION:
            raise StateCorrupt(f"{place} is of version {version!r:.20}, this agent reads {VERSION}")
        if document["digest"] != digest_of(body):
            raise StateCorrupt(f"{place} does not match its own digest; it was damaged or edited")
        return AgentRecord(
            name=agent_name(str(body["name"])),
            key=_key_in(body["key"]),
            wish=Wish(
                capabilities=require_canonical(_words(body["capabilities"])),
                locator=str(body["locator"]),
                validation_methods=require_canonical(
                    _words(body["validation_methods"]), kind=VALIDATION_METHODS
                ),
                group=str(body["group"]),
                owner_binding=str(body["owner_binding"]),
                provider_endorsement=endorsement,
            ),
            certified=_certified_in(body["certified"]),
            asked=body["asked"] is True,
            failures=int(body["failures"]),
            retry_at=_moment_or_none(body["retry_at"]),
            fault=fault_in(body["fault"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise StateCorrupt(f"{place} is not an agent's record ({type(error).__name__})") from error


def _key_in(body: Any) -> WrappedKey:  # noqa: ANN401 - what JSON holds
    key = WrappedKey(
        public=base64.b64decode(body["public"], validate=True),
        private=base64.b64decode(body["wrapped"], validate=True),
    )
    parse_public(key.public)
    return key


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(str(word) for word in value)


def _certified_out(certified: Certified) -> dict[str, object]:
    return {
        "agent_id": certified.agent_id,
        "certificate_chain_pem": certified.certificate_chain_pem,
        "obtained_at": certified.obtained_at.isoformat(),
        "not_after": certified.not_after.isoformat(),
        "renew_at": certified.renew_at.isoformat(),
        "token": certified.token,
        "token_obtained_at": certified.token_obtained_at.isoformat(),
        "token_expires_at": certified.token_expires_at.isoformat(),
        "owner": certified.owner,
        "capabilities": list(certified.capabilities),
    }


def _certified_in(body: Any) -> Certified | None:  # noqa: ANN401 - what JSON holds
    if body is None:
        return None
    return Certified(
        agent_id=str(body["agent_id"]),
        certificate_chain_pem=str(body["certificate_chain_pem"]),
        obtained_at=moment_in(body["obtained_at"]),
        not_after=moment_in(body["not_after"]),
        renew_at=moment_in(body["renew_at"]),
        token=str(body["token"]),
        token_obtained_at=moment_in(body["token_obtained_at"]),
        token_expires_at=moment_in(body["token_expires_at"]),
        owner=str(body["owner"]),
        capabilities=_words(body["capabilities"]),
    )


def _moment_or_none(text: Any) -> datetime | None:  # noqa: ANN401 - what JSON holds
    return moment_in(text) if text else None
