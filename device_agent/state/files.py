"""The state file: one JSON document, replaced whole or not at all.

A write goes to a temporary file in the same directory, is flushed to the disk, renamed over the
old one, and the directory is flushed too: whoever kills us when, a reader finds the old document
or the new one. The document carries its version and a digest, so that a damaged one is noticed
and set aside instead of believed.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from device_agent.errors import StateCorrupt, StateUnwritable
from device_agent.lifecycle import Credential, Fault, State, Verdict
from device_agent.ports import KeyRole
from device_agent.state.documents import (
    digest_of,
    fault_in,
    fault_out,
    moment_in,
    replace_durably,
)

VERSION: Final = 1
FILE_NAME: Final = "state.json"
_LOCK_NAME: Final = ".lock"
_CORRUPT_NAME: Final = "state.json.corrupt"
_MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """What survives a restart, and what ``device-agent status`` shows.

    Attributes:
        phase: The daemon's phase when it was written.
        saved_at: When (aware).
        seq: Number of the last status document published; only ever grows.
        credential: The LDevID certificate.
        candidate: A certificate for a new key, not yet proven to work.
        retiring: A slot whose key is to be evicted.
        slot: Where the key to enrol is.
        renew_at: When the certificate is to be renewed.
        rotate_at: Before this moment the key is not exchanged; None for its age alone.
        renewal_fault: Why the last renewal failed, if none succeeded since.
        verdict: The last judgement.
        fault: The last fault, if none of its kind has ended since.
    """

    phase: str
    saved_at: datetime
    seq: int = 0
    credential: Credential | None = None
    candidate: Credential | None = None
    retiring: KeyRole | None = None
    slot: KeyRole = KeyRole.LDEVID
    renew_at: datetime | None = None
    rotate_at: datetime | None = None
    renewal_fault: Fault | None = None
    verdict: Verdict | None = None
    fault: Fault | None = None

    @staticmethod
    def of(state: State, at: datetime, seq: int) -> SavedState:
        """Return what survives of a state."""
        return SavedState(
            phase=state.phase.value,
            saved_at=at,
            seq=seq,
            credential=state.credential,
            candidate=state.candidate,
            retiring=state.retiring,
            slot=state.slot,
            renew_at=state.renew_at,
            rotate_at=state.rotate_at,
            renewal_fault=state.renewal_fault,
            verdict=state.verdict,
            fault=state.fault,
        )

    def resumed(self) -> State:
        """Return the state that a new process begins with."""
        return State(
            credential=self.credential,
            candidate=self.candidate,
            retiring=self.retiring,
            slot=self.slot,
            renew_at=self.renew_at,
            rotate_at=self.rotate_at,
            renewal_fault=self.renewal_fault,
            verdict=self.verdict,
            fault=self.fault,
        )


class StateHeld(StateUnwritable):
    """Another device-agent writes here."""


class StateFile:
    """The state directory of one daemon.

    Args:
        directory: Where the file is; made (0700) when first written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: int | None = None

    @property
    def path(self) -> Path:
        """The state file."""
        return self._directory / FILE_NAME

    def claim(self) -> None:
        """Make the directory, and make sure that no other device-agent writes here.

        Raises:
            StateHeld: If another holds the directory.
            StateUnwritable: If it cannot be made or written.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self._directory / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StateHeld(
                f"another device-agent holds {self._directory}; stop it first "
                "(systemctl stop device-agent)"
            ) from error
        self._lock = lock

    def release(self) -> None:
        """Let others claim the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load(self) -> SavedState | None:
        """Read the document; None if there is none yet.

        Raises:
            StateCorrupt: If it is damaged or of another version.
            StateUnwritable: If it is there but may not be read.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnwritable(f"{self.path} cannot be read: {error.strerror}") from error
        return decode_state(content, str(self.path))

    def set_aside(self) -> Path:
        """Rename a corrupt document so that it can be looked at and does not come back.

        Raises:
            StateUnwritable: If it cannot be renamed.
        """
        aside = self._directory / _CORRUPT_NAME
        try:
            self.path.replace(aside)
        except OSError as error:
            raise self._unwritable(error) from error
        return aside

    def save(self, state: SavedState) -> None:
        """Replace the document, durably.

        Raises:
            StateUnwritable: If the disk is full or the directory is not writable; the old
                document is then still whole.
        """
        try:
            replace_durably(self.path, encode_state(state))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StateUnwritable:
        return StateUnwritable(
            f"{self._directory} cannot be written: {error.strerror}; free space, or give the "
            "directory to the daemon's user"
        )


def encode_state(state: SavedState) -> bytes:
    """Return the document's bytes: ``{"version", "digest", "state"}``."""
    body = {
        "phase": state.phase,
        "saved_at": state.saved_at.isoformat(),
        "seq": state.seq,
        "credential": None if state.credential is None else _credential_out(state.credential),
        "candidate": None if state.candidate is None else _credential_out(state.candidate),
        "retiring": state.retiring,
        "slot": state.slot,
        "renew_at": None if state.renew_at is None else state.renew_at.isoformat(),
        "rotate_at": None if state.rotate_at is None else state.rotate_at.isoformat(),
        "renewal_fault": None if state.renewal_fault is None else fault_out(state.renewal_fault),
        "verdict": None if state.verdict is None else _verdict_out(state.verdict),
        "fault": None if state.fault is None else fault_out(state.fault),
    }
    document = {"version": VERSION, "digest": digest_of(body), "state": body}
    return json.dumps(document, indent=1).encode() + b"\n"


def decode_state(content: bytes, place: str) -> SavedState:
    """Read the document's bytes.

    Raises:
        StateCorrupt: If anything about it is not what :func:`encode_state` writes.
    """
    if len(content) > _MOST_BYTES:
        raise StateCorrupt(f"{place} is larger than {_MOST_BYTES} bytes")
    try:
        document = json.loads(content)
        version, body = document["version"], document["state"]
        if version != VERSION:
            raise StateCorrupt(f"{place} is of version {version!r:.20}, this agent reads {VERSION}")
        if document["digest"] != digest_of(body):
            raise StateCorrupt(f"{place} does not match its own digest; it was damaged or edited")
        return SavedState(
            phase=str(body["phase"]),
            saved_at=moment_in(body["saved_at"]),
            seq=int(body["seq"]),
            credential=_credential_in(body["credential"]),
            candidate=_credential_in(body.get("candidate")),
            retiring=_slot_in(body["retiring"]) if body.get("retiring") else None,
            slot=_slot_in(body.get("slot", KeyRole.LDEVID)),
            renew_at=moment_in(body["renew_at"]) if body.get("renew_at") else None,
            rotate_at=moment_in(body["rotate_at"]) if body.get("rotate_at") else None,
            renewal_fault=fault_in(body.get("renewal_fault")),
            verdict=_verdict_in(body["verdict"]),
            fault=fault_in(body["fault"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateCorrupt(f"{place} is not a state document ({type(error).__name__})") from error


def _slot_in(text: str) -> KeyRole:
    slot = KeyRole(text)
    if not slot.is_ldevid:
        raise ValueError("a slot that holds no LDevID")
    return slot


def _credential_out(credential: Credential) -> dict[str, str | None]:
    begins, since = credential.not_before, credential.key_since
    return {
        "not_before": None if begins is None else begins.isoformat(),
        "slot": credential.slot,
        "key_since": None if since is None else since.isoformat(),
        "device_id": credential.device_id,
        "certificate_chain_pem": credential.certificate_chain_pem,
        "obtained_at": credential.obtained_at.isoformat(),
        "not_after": credential.not_after.isoformat(),
    }


def _credential_in(body: Any) -> Credential | None:  # noqa: ANN401 - what JSON holds
    if body is None:
        return None
    return Credential(
        device_id=str(body["device_id"]),
        certificate_chain_pem=str(body["certificate_chain_pem"]),
        obtained_at=moment_in(body["obtained_at"]),
        not_after=moment_in(body["not_after"]),
        not_before=moment_in(body["not_before"]) if body.get("not_before") else None,
        slot=_slot_in(body.get("slot", KeyRole.LDEVID)),
        key_since=moment_in(body["key_since"]) if body.get("key_since") else None,
    )


def _verdict_out(verdict: Verdict) -> dict[str, object]:
    return {
        "status": verdict.status,
        "allowed": verdict.allowed,
        "reasons": list(verdict.reasons),
        "result": verdict.result,
        "at": verdict.at.isoformat(),
    }


def _verdict_in(body: Any) -> Verdict | None:  # noqa: ANN401 - what JSON holds
    if body is None:
        return None
    return Verdict(
        status=str(body["status"]),
        allowed=body["allowed"] is True,
        reasons=tuple(str(reason) for reason in body["reasons"]),
        result=str(body["result"]),
        at=moment_in(body["at"]),
    )
