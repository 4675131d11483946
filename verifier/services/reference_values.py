"""Reference values: the library in use, learning from a golden device, import and removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from verifier.appraisal.measured_state import attach_log
from verifier.appraisal.policy import AppraisalPolicy
from verifier.appraisal.replay_cache import judge_log
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader, Store
from verifier.reference_values.aibom import AiBom, load_aibom
from verifier.reference_values.golden import learn
from verifier.reference_values.model import (
    MAX_SETS,
    DatedLibrary,
    ReferenceLibrary,
    ReferenceSet,
    library_at,
)
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.reference_values.runtime_policy_file import load_runtime_policy
from verifier.services.last_evidence import proven_evidence
from verifier.services.log_sets import set_of_log
from verifier.services.reference_documents import (
    MAX_NAME_CHARS,
    AiBomLoader,
    DocumentShelf,
    LeftOut,
    RuntimePolicyLoader,
)
from verifier.telemetry import Logger

REFRESH: Final = timedelta(milliseconds=500)
"""How soon a change made by the command line, or on another replica, is in use."""


class ReferenceShelf:
    """The reference library in use; safe to share between threads.

    Args:
        store: Where reference sets and documents are.
        runtime_policy: Compiles a runtime policy.
        aibom: Compiles an AIBOM with its providers.
        log: Told what was left out.
    """

    def __init__(
        self,
        store: DeviceReader,
        runtime_policy: RuntimePolicyLoader = load_runtime_policy,
        aibom: AiBomLoader = load_aibom,
        log: Logger | None = None,
    ) -> None:
        self._store = store
        self._log = log
        self._documents = DocumentShelf(store, runtime_policy, aibom)
        self._lock = Lock()
        self._revision = -1
        self._looked: datetime | None = None
        self._known = _Known()
        self._dated = DatedLibrary(library=ReferenceLibrary())
        self.left_out: tuple[LeftOut, ...] = ()

    def current(self, at: datetime) -> ReferenceLibrary:
        """Return the library for a moment (aware), looking for changes at most twice a second.

        Sets begin and end in it when they say so. What does not load is left out of it, logged
        and named in ``left_out``.
        """
        # One thread looks; the others go on with what is in use, but wait while there is nothing.
        if self._due(at) and self._lock.acquire(blocking=self._revision < 0):
            try:
                if self._due(at):
                    self._look(at)
            finally:
                self._lock.release()
        dated = self._dated
        if not dated.holds(at):
            with self._lock:
                dated = self._dated
                if not dated.holds(at):
                    self._dated = dated = self._known.at(at)
        return dated.library

    def _due(self, at: datetime) -> bool:
        looked = self._looked
        if looked is None or self._revision < 0:
            return True
        return not timedelta(0) <= at - looked < REFRESH

    def _look(self, at: datetime) -> None:
        self._looked = at
        revision = self._store.reference_revision()
        if revision != self._revision:
            self._known = self._read()
            self._dated = self._known.at(at)
            self._revision = revision

    def _read(self) -> _Known:
        stored = self._store.reference_sets()
        policies, aiboms, left_out = self._documents.compiled()
        unreadable = [
            *stored.unreadable,
            *((one.id, f"beyond the {MAX_SETS} taken") for one in stored.sets[MAX_SETS:]),
        ]
        self.left_out = (
            *(LeftOut(kind="reference-set", name=n, reason=why) for n, why in unreadable),
            *left_out,
        )
        if self._log is not None:
            for one in self.left_out:
                self._log.error(
                    "reference_left_out", kind=one.kind, name=one.name, reason=one.reason
                )
        return _Known(
            sets=stored.sets[:MAX_SETS],
            runtime={one.name: one for one in policies},
            aiboms={one.sha256: one for one in aiboms},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Everything that was loaded, in force or not."""

    sets: tuple[ReferenceSet, ...] = ()
    runtime: Mapping[str, RuntimePolicy] = field(default_factory=dict)
    aiboms: Mapping[bytes, AiBom] = field(default_factory=dict)

    def at(self, at: datetime) -> DatedLibrary:
        return library_at(at, self.sets, self.runtime, self.aiboms)


class ReferenceValues:
    """What operators do with reference sets.

    Args:
        store: The store.
        policy: Says which PCRs are learnt.
    """

    def __init__(self, store: Store, policy: AppraisalPolicy) -> None:
        self._store = store
        self._policy = policy

    def names(self) -> Sequence[ReferenceSet]:
        """Return all sets by name."""
        return self._store.reference_sets().sets

    def named(self, name: str) -> ReferenceSet:
        """Return one set: the newest version of ``name``, or exactly ``name/version``.

        Raises:
            NotFound: If there is none.
        """
        for chosen in self._store.reference_sets().sets:
            if name in (chosen.name, chosen.id):
                return chosen
        raise _no_set(name)

    def earlier(self, chosen: ReferenceSet) -> ReferenceSet | None:
        """Return the version before this one, if it is still there."""
        for other in self._versions(chosen.name):
            if other.version < chosen.version:
                return other
        return None

    def newest(self, name: str) -> ReferenceSet | None:
        """Return the newest version of a set, if there is one."""
        return next(iter(self._versions(name)), None)

    def as_next(self, chosen: ReferenceSet) -> ReferenceSet:
        """Return a set with the version after the newest one of its name."""
        older = self.newest(chosen.name)
        return replace(chosen, version=older.version + 1 if older else 1)

    def put(self, *chosen: ReferenceSet, keep_older_until: datetime | None = None) -> None:
        """Add sets, or replace those of the same names; all or none.

        Args:
            chosen: The sets.
            keep_older_until: Earlier versions of them are accepted beside them until then;
                without, they are replaced at once.

        Raises:
            RequestRefused: If a version is not above those to be kept, a name is too long, or
                there is no room for more sets.
        """
        changed = self._changed(chosen, keep_older_until)
        with self._store.work() as work:
            for one in chosen:
                work.remove_reference_set(one.name)
            for one in changed:
                work.put_reference_set(one)

    def with_these(
        self, *chosen: ReferenceSet, keep_older_until: datetime | None = None
    ) -> tuple[ReferenceSet, ...]:
        """Return all sets as they would be after :meth:`put`, which raises the same."""
        names = {one.name for one in chosen}
        others = [one for one in self._store.reference_sets().sets if one.name not in names]
        return _in_order([*others, *self._changed(chosen, keep_older_until)])

    def without(self, name: str) -> tuple[ReferenceSet, ...]:
        """Return all sets as they would be after :meth:`remove`.

        Raises:
            NotFound: If there is none of that name.
        """
        sets = self._store.reference_sets().sets
        left = tuple(one for one in sets if one.name != name)
        if len(left) == len(sets):
            left = tuple(one for one in sets if one.id != name)
        if len(left) == len(sets):
            raise _no_set(name)
        return left

    def _changed(
        self, chosen: Sequence[ReferenceSet], keep_older_until: datetime | None
    ) -> list[ReferenceSet]:
        """Return every version of the chosen sets' names as it is to be."""
        stored = self._store.reference_sets().sets
        names = {one.name for one in chosen}
        older = [one for one in stored if one.name in names]
        kept = older if keep_older_until is not None else []
        for one in chosen:
            _check_newer(one, [other for other in kept if other.name == one.name])
        if len(stored) - len(older) + len(kept) + len(chosen) > MAX_SETS:
            raise RequestRefused(
                RefusalCode.TOO_MANY, f"there is room for {MAX_SETS} sets; remove some first"
            )
        return [*(_accepted_until(other, keep_older_until) for other in kept), *chosen]

    def review(
        self, name: str, by: str, at: datetime, pcrs: frozenset[int] | None = None
    ) -> ReferenceSet:
        """Note that a person has looked at a set and found it right.

        Args:
            name: ``name`` or ``name/version``.
            by: Who.
            at: Now (aware).
            pcrs: The PCRs looked at; None for all.

        Raises:
            NotFound: If there is no such set.
            RequestRefused: If nobody is named, or a PCR that the set does not hold.
        """
        if not by.strip() or not by.isprintable():
            raise RequestRefused(RefusalCode.REQUEST_INVALID, "say who has reviewed the set")
        chosen = self.named(name)
        held = chosen.to_review.union(*chosen.pcrs.values())
        if pcrs is not None and not pcrs <= held:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID,
                f"the set holds no PCR {min(pcrs - held)}; it holds "
                + ", ".join(map(str, sorted(held))),
            )
        left = frozenset() if pcrs is None else chosen.to_review - pcrs
        made = replace(chosen, reviewed_by=by, reviewed_at=at, to_review=left)
        with self._store.work() as work:
            work.put_reference_set(made)
        return made

    def remove(self, name: str) -> None:
        """Remove a set: all versions of ``name``, or exactly ``name/version``.

        Raises:
            NotFound: If there is none.
        """
        bare, _, version = name.rpartition("/")
        exact = bare and version.isascii() and version.isdecimal() and not self._versions(name)
        with self._store.work() as work:
            if exact:
                gone = work.remove_reference_set(bare, version=int(version))
            else:
                gone = work.remove_reference_set(name)
        if not gone:
            raise _no_set(name)

    def _versions(self, name: str) -> tuple[ReferenceSet, ...]:
        """Return all versions of a set, the newest first."""
        return tuple(one for one in self._store.reference_sets().sets if one.name == name)

    def learn_device(
        self,
        device: str,
        name: str,
        at: datetime,
        keep_older_until: datetime | None = None,
    ) -> ReferenceSet:
        """Learn a set from the last evidence of a device, if that evidence was authentic.

        Args:
            device: The device's id.
            name: The set's name.
            at: Now (aware).
            keep_older_until: As in :meth:`put`.

        Raises:
            NotFound: If the device is not enrolled or has sent no evidence.
            RequestRefused: If its last evidence was not proven (steps 1 to 4).
        """
        evidence = proven_evidence(self._store, device)
        log = evidence.firmware_log
        if log is not None and log.content is None:
            content = self._store.firmware_log(log.digest)
            if content is not None:
                evidence = attach_log(evidence, content)
                log = evidence.firmware_log
        values: PcrBanks = evidence.pcr_values
        judged = judge_log(log.content, self._banks()) if log and log.content else None
        if not values and judged is not None:
            values = judged.replayed.pcrs
        older = self.newest(name)
        chosen = learn(
            name,
            judged.replayed if judged else None,
            values,
            self._policy.selections,
            at,
            version=older.version + 1 if older else 1,
            older=older,
            description=f"learnt from device {device}",
        )
        self.put(chosen, keep_older_until=keep_older_until)
        return chosen

    def learn_log(
        self,
        content: bytes,
        name: str,
        at: datetime,
        keep_older_until: datetime | None = None,
    ) -> ReferenceSet:
        """Learn a set from a firmware log alone: what its events lead to.

        Args:
            content: The log, e.g. of a support RIM.
            name: The set's name.
            at: Now (aware).
            keep_older_until: As in :meth:`put`.

        Raises:
            AttestationError: As :func:`verifier.services.log_sets.set_of_log`.
        """
        chosen = set_of_log(content, name, at, self._policy, self.newest(name))
        self.put(chosen, keep_older_until=keep_older_until)
        return chosen

    def _banks(self) -> tuple[HashAlgorithm, ...]:
        return tuple(selection.bank for selection in self._policy.selections)


def _check_newer(chosen: ReferenceSet, kept: Sequence[ReferenceSet]) -> None:
    if len(chosen.name) > MAX_NAME_CHARS:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, f"a name has at most {MAX_NAME_CHARS} characters"
        )
    newest = max((other.version for other in kept), default=0)
    if newest >= chosen.version:
        raise RequestRefused(
            RefusalCode.CONFLICT,
            f"{chosen.id} is not newer than {chosen.name}/{newest}: earlier versions can only be "
            f"kept beside a later one. Give it version {newest + 1}",
        )


def _accepted_until(older: ReferenceSet, until: datetime | None) -> ReferenceSet:
    """Return an earlier version with its last day; a nearer one that it has stays."""
    ends = [end for end in (older.accepted_until, until) if end is not None]
    return replace(older, accepted_until=min(ends))


def _in_order(sets: Sequence[ReferenceSet]) -> tuple[ReferenceSet, ...]:
    """Return sets as the store gives them: by name, the newest version first."""
    return tuple(sorted(sets, key=lambda one: (one.name, -one.version)))


def _no_set(name: str) -> NotFound:
    return NotFound(RefusalCode.REFERENCE_MISSING, f"no reference set is named {name!r}")
