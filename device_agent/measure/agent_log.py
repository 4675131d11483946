"""The AI agent measured: its AIBOM, then every file in its folder, then every change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attestation.errors import AttestationError
from attestation.limits import MAX_AIBOM_BYTES
from attestation.logs.cel import Measurement, RecordKind
from attestation.wire.cyclonedx import AibomListing, read_aibom
from device_agent.measure.folder import (
    Folder,
    hash_file,
    look,
    read_document,
    timeless_devices,
)
from device_agent.measure.patterns import Excludes
from device_agent.measure.plan import Difference, Remembered, compare, pending, stale
from device_agent.measure.register import MeasuredRegister, Watch

if TYPE_CHECKING:
    from device_agent.ports import AgentLog

_SETTLED: Final = timedelta(seconds=2)
"""A file that changed later than this before it was hashed is hashed again next time: it may have
changed once more within one tick of the file system's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlace:
    """Where the agent is.

    Attributes:
        root: Its folder.
        aibom: Its AIBOM.
        excludes: What in the folder is not measured unless the AIBOM lists it.
    """

    root: Path
    aibom: Path
    excludes: Excludes


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What would be measured now.

    Attributes:
        aibom: The AIBOM document.
        listing: What it lists; None if it cannot be read.
        trouble: Why not; empty otherwise.
        present: What is there, by path.
        complete: False if the folder holds more than is measured.
    """

    aibom: Measurement
    listing: AibomListing | None
    trouble: str
    present: Mapping[str, Measurement]
    complete: bool

    @property
    def difference(self) -> Difference | None:
        """Where the folder is not what the AIBOM lists; None if that cannot be said."""
        return None if self.listing is None else compare(self.present, self.listing)


class Surveyor:
    """Looks at the agent's folder; hashes a file again only when its stat has changed.

    Args:
        place: Where the agent is.
        now: The wall clock, for files that have changed just now.
        watch: Its ``alive`` is called in long work.
    """

    def __init__(self, place: AgentPlace, now: Callable[[], datetime], watch: Watch) -> None:
        self._place = place
        self._now = now
        self._alive = watch.alive
        self._known: dict[str, Remembered] = {}
        self._read: tuple[bytes, AibomListing | None, str] = (b"", None, "")

    def survey(self) -> Survey:
        """Look, hash what is new, and say what is there.

        Raises:
            SourceUnreadable: If the AIBOM or the folder cannot be read.
        """
        document = read_document(self._place.aibom, MAX_AIBOM_BYTES)
        digest = hashlib.sha256(document).digest()
        if self._read[0] != digest:
            self._read = (digest, *_listing(document))
        _, listing, trouble = self._read
        folder = look(
            self._place.root,
            excludes=self._place.excludes,
            listed=frozenset(listing.files) if listing else frozenset(),
            skip=self._place.aibom,
        )
        return Survey(
            aibom=Measurement(kind=RecordKind.AIBOM, path=self._place.aibom.name, digest=digest),
            listing=listing,
            trouble=trouble,
            present=self._measure(folder),
            complete=folder.complete,
        )

    def _measure(self, folder: Folder) -> dict[str, Measurement]:
        now: dict[str, Measurement] = {}
        timeless = timeless_devices()
        fresh = frozenset(stale(folder.found, self._known))
        for path, one in folder.found.items():
            if one.kind is not RecordKind.FILE:
                now[path] = Measurement(kind=one.kind, path=path, digest=one.digest)
            elif path not in fresh:
                now[path] = self._known[path].measured
            else:
                self._alive()
                measured = self._hash(path, folder)
                if measured is not None:
                    now[path] = measured
        self._known = {
            path: self._known[path]
            for path in now
            if path in self._known and self._known[path].key[0] not in timeless
        }
        return now

    def _hash(self, path: str, folder: Folder) -> Measurement | None:
        self._known.pop(path, None)
        hashed = hash_file(folder.base, folder.places[path], self._alive)
        if hashed is None:
            return None
        measured = Measurement(kind=hashed.kind, path=path, digest=hashed.digest)
        settled = (self._now() - _SETTLED).timestamp() * 1e9
        if hashed.kind is RecordKind.FILE and hashed.changed_ns < settled:
            self._known[path] = Remembered(key=hashed.key, measured=measured)
        return measured


def _listing(document: bytes) -> tuple[AibomListing | None, str]:
    try:
        return read_aibom(document), ""
    except AttestationError as error:
        # What is measured does not hang on it; the verifier has its own word on this AIBOM.
        return None, error.describe()


class MeasuredAgent:
    """Implements :class:`device_agent.ports.AgentLog`.

    Args:
        surveyor: Looks at the folder.
        register: The PCR with its log.
        excludes: Written into the log, so that the verifier knows what is not measured.
        watch: Its ``alive`` is called in long work.
    """

    def __init__(
        self,
        surveyor: Surveyor,
        register: MeasuredRegister,
        excludes: Excludes,
        watch: Watch,
    ) -> None:
        self._surveyor = surveyor
        self._register = register
        self._excludes = excludes
        self._alive = watch.alive

    @property
    def pcr(self) -> int:
        """The PCR that is extended."""
        return self._register.pcr

    def read(self) -> bytes | None:
        """Measure what changed, extend the PCR, and return the whole log.

        Raises:
            SourceUnreadable: If the AIBOM or the agent's folder cannot be read.
            TpmError: If the TPM fails.
        """
        self._register.synchronise()
        if not self._register.files.full:
            self._bring_up_to_date()
        return self._register.content

    def _bring_up_to_date(self) -> None:
        survey, files = self._surveyor.survey(), self._register.files
        if files.aibom != survey.aibom:
            self._register.record(survey.aibom)
        for pattern in self._excludes.patterns:
            if pattern not in files.excluded:
                digest = hashlib.sha256(pattern.encode()).digest()
                self._register.record(
                    Measurement(kind=RecordKind.EXCLUDED, path=pattern, digest=digest)
                )
        for measured in tuple(pending(survey.present, files)):
            self._alive()
            self._register.record(measured)
        if not survey.complete:
            self._register.close_log()


if TYPE_CHECKING:

    def _fits(agent: MeasuredAgent) -> AgentLog:
        return agent
