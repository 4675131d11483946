"""Reference values: the library in use, learning from a golden device, import and removal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import VerificationError
from attestation.identity import device_id
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.measured_state import attach_log
from verifier.appraisal.policy import AppraisalPolicy
from verifier.appraisal.replay_cache import judge_log
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader, Store
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary, ReferenceSet
from verifier.services.reference_documents import (
    AiBomLoader,
    DocumentShelf,
    LeftOut,
    RuntimePolicyLoader,
    aibom_of,
    runtime_policy_of,
)
from verifier.telemetry import logger

_LOG: Final = logger("reference-values")

REFRESH: Final = timedelta(milliseconds=500)
"""How soon a change made by the command line, or on another replica, is in use."""


class ReferenceShelf:
    """The reference library in use.

    Args:
        store: Where reference sets and documents are.
        load_runtime_policy: Compiles a runtime policy.
        load_aibom: Compiles an AIBOM with its providers.
    """

    def __init__(
        self,
        store: DeviceReader,
        load_runtime_policy: RuntimePolicyLoader = runtime_policy_of,
        load_aibom: AiBomLoader = aibom_of,
    ) -> None:
        self._store = store
        self._documents = DocumentShelf(store, load_runtime_policy, load_aibom)
        self._revision = -1
        self._looked: datetime | None = None
        self._library = ReferenceLibrary()
        self.left_out: tuple[LeftOut, ...] = ()

    def current(self, at: datetime) -> ReferenceLibrary:
        """Return the library, looking for changes at most twice a second.

        What does not load is left out of it, logged, and named in ``left_out``.
        """
        if self._looked is None or not timedelta(0) <= at - self._looked < REFRESH:
            self._looked = at
            revision = self._store.reference_revision()
            if revision != self._revision:
                self._build()
                self._revision = revision
        return self._library

    def _build(self) -> None:
        stored = self._store.reference_sets()
        policies, aiboms, left_out = self._documents.compiled()
        self._library = ReferenceLibrary(
            sets=stored.sets,
            runtime={one.name: one for one in policies},
            aiboms={one.sha256: one for one in aiboms},
        )
        self.left_out = (
            *(LeftOut(kind="reference-set", name=n, reason=r) for n, r in stored.unreadable),
            *left_out,
        )
        for one in self.left_out:
            _LOG.error("reference_left_out", kind=one.kind, name=one.name, reason=one.reason)


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
        """Return one set.

        Raises:
            NotFound: If there is none of that name.
        """
        for chosen in self._store.reference_sets().sets:
            if chosen.name == name:
                return chosen
        raise NotFound(RefusalCode.REFERENCE_MISSING, f"no reference set is named {name!r}")

    def put(self, chosen: ReferenceSet) -> None:
        """Add or replace a set."""
        with self._store.work() as work:
            work.remove_reference_set(chosen.name)
            work.put_reference_set(chosen)

    def remove(self, name: str) -> None:
        """Remove a set.

        Raises:
            NotFound: If there is none of that name.
        """
        with self._store.work() as work:
            if not work.remove_reference_set(name):
                raise NotFound(RefusalCode.REFERENCE_MISSING, f"no reference set is named {name!r}")

    def learn_device(self, device: str, name: str, at: datetime) -> ReferenceSet:
        """Learn a set from the last evidence of a device, if that evidence was authentic.

        Raises:
            NotFound: If the device is not enrolled or has sent no evidence.
            VerificationError: If its last evidence proved nothing (steps 1 to 3 failed), or its
                log does not replay to the quoted values.
        """
        known = self._store.device(device_id(device))
        if known is None:
            raise NotFound(RefusalCode.DEVICE_UNKNOWN, f"no device {device!r} is enrolled here")
        newest = self._store.newest_result(known.device)
        message = self._store.last_evidence(known.device)
        if newest is None or not message:
            raise NotFound(RefusalCode.RESULT_ABSENT, f"device {device} has sent no evidence yet")
        for number, step, verdict, detail in newest.steps[:4]:
            if verdict != "passed":
                raise RequestRefused(
                    RefusalCode.EVIDENCE_NOT_ACCEPTABLE,
                    f"nothing can be learnt from the last evidence of {device}: "
                    f"step {number} ({step}) {verdict}: {detail}",
                )
        evidence = decode_evidence(message)
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
        chosen = learn(
            name,
            judged.replayed if judged else None,
            values,
            self._policy.selections,
            at,
            version=self._next_version(name),
            description=f"learnt from device {device}",
        )
        self.put(chosen)
        return chosen

    def learn_log(self, content: bytes, name: str, at: datetime) -> ReferenceSet:
        """Learn a set from a firmware log alone: what its events lead to.

        Raises:
            InputError: If it is not a firmware log, or does not cover the policy's PCRs.
        """
        judged = judge_log(content, self._banks())
        for problem in judged.missing_banks.values():
            raise VerificationError(problem.code, problem.reason)
        chosen = learn(
            name,
            judged.replayed,
            judged.replayed.pcrs,
            self._policy.selections,
            at,
            version=self._next_version(name),
            description=f"learnt from the firmware log {hashlib.sha256(content).hexdigest()}",
        )
        self.put(chosen)
        return chosen

    def _banks(self) -> tuple[HashAlgorithm, ...]:
        return tuple(selection.bank for selection in self._policy.selections)

    def _next_version(self, name: str) -> int:
        older = [
            chosen.version for chosen in self._store.reference_sets().sets if chosen.name == name
        ]
        return max(older, default=0) + 1
