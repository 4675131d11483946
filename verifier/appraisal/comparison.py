"""Step 5, comparison: proven PCR values held against what known-good devices measure.

The comparison accuses nobody; it says known, unknown or unlisted, and for an unknown PCR which
event of it no reference has seen. What that is worth is the policy's (step 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from attestation.algorithms import HashAlgorithm, short_digest
from attestation.logs.event_types import event_type_name
from attestation.refusals import RefusalCode
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.measured_state import MeasuredState
from verifier.appraisal.policy_model import AppraisalPolicy, Coverage, Match
from verifier.reference_values.model import PcrKey, PcrMatch, ReferenceLibrary, ReferenceSet


class Kind(Enum):
    """In what way a PCR is not known."""

    UNKNOWN = "unknown"
    """The reference set has other values for it."""
    UNLISTED = "unlisted"
    """No reference set speaks of it."""
    RESTING = "resting"
    """A reference set has its value, together with all others, but is not in force now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One PCR that is not known.

    Attributes:
        kind: In what way.
        reason: For people: where it differs and what to do.
    """

    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A measured state held against a reference library.

    Attributes:
        state: The measured state, with faults that known values explain told as such.
        nearest: Id of the reference set it was held against; None if there was none.
        differing: Those compared PCRs that are not known; empty when all are.
        to_review: PCRs of ``nearest`` that were learnt and that nobody has looked at.
    """

    state: MeasuredState
    nearest: str | None
    differing: Mapping[PcrKey, Difference]
    to_review: frozenset[int] = frozenset()

    @property
    def matched(self) -> str | None:
        """Id of the reference set that explains every compared PCR."""
        return None if self.differing else self.nearest


_NOTHING: Mapping[PcrKey, Difference] = {}


def compare(state: MeasuredState, library: ReferenceLibrary, policy: AppraisalPolicy) -> Comparison:
    """Hold every compared PCR against one and the same reference set.

    PCRs that the policy judges by their log alone take no part.

    Args:
        state: From step 4.
        library: The sets that may apply to this device.
        policy: Says what each PCR is held against.
    """
    values = state.values
    keys = policy.compared
    match = library.match([(bank, index, values[bank][index]) for bank, index in keys])
    nearest = match.nearest.id if match.nearest is not None else None
    to_review = match.nearest.to_review if match.nearest is not None else frozenset()
    differing: Mapping[PcrKey, Difference] = _NOTHING
    if match.matched is None:
        found = ((key, _difference(key, state, match, policy)) for key in _odd(keys, match))
        differing = {key: difference for key, difference in found if difference is not None}
    if state.faults and match.nearest is not None:
        state = _rest_on_values(state, match.nearest, differing, policy)
    return Comparison(state=state, nearest=nearest, differing=differing, to_review=to_review)


def _rest_on_values(
    state: MeasuredState,
    reference: ReferenceSet,
    differing: Mapping[PcrKey, Difference],
    policy: AppraisalPolicy,
) -> MeasuredState:
    """Let PCRs that others extend after the log ends rest on values that are known to be good.

    Only where the policy says so (``coverage = "reported"``) and the reference set has the quoted
    value: then the log ended early, and nothing unknown was measured.
    """

    def rested(fault: PcrFault) -> PcrFault:
        rule = policy.by_pcr[fault.pcr]
        if (
            fault.code != RefusalCode.LOG_REPLAY_MISMATCH
            or rule.coverage is not Coverage.REPORTED
            or rule.match is Match.LOG
            or (fault.bank, fault.pcr) in differing
        ):
            return fault
        return replace(
            fault,
            code=RefusalCode.PCR_NOT_COVERED,
            decides=False,
            reason=f"PCR {fault.pcr} ({fault.bank.label}) was extended after the firmware log "
            f"ended; its value is the one in reference set {reference.id!r}, and rests on that",
        )

    return replace(state, faults=tuple(rested(fault) for fault in state.faults))


def _odd(keys: tuple[PcrKey, ...], match: PcrMatch) -> tuple[PcrKey, ...]:
    return match.unknown + match.unlisted if match.nearest is not None else keys


def _difference(
    key: PcrKey, state: MeasuredState, match: PcrMatch, policy: AppraisalPolicy
) -> Difference | None:
    """Say in what way one PCR is not known; None if its events excuse it."""
    bank, index = key
    if match.resting is not None:
        return _resting(key, match.resting)
    if match.nearest is None:
        return Difference(
            kind=Kind.UNLISTED,
            reason=f"PCR {index} ({bank.label}) cannot be compared: no reference values apply to "
            "this device. Learn them from a known-good device or load a file",
        )
    reference = match.nearest
    by_events = policy.by_pcr[index].match is Match.EVENTS
    stranger, explained = _first_stranger(state, reference, bank, index)
    if by_events and explained and stranger is None:
        return None
    if key in match.unlisted:
        return Difference(
            kind=Kind.UNLISTED,
            reason=f"PCR {index} ({bank.label}) cannot be compared: reference set "
            f"{reference.id!r} says nothing about it",
        )
    held = short_digest(state.values[bank][index])
    where = stranger or (
        "every event in it is known, so they came in another order, or one is missing or repeated"
        if explained
        else "no log tells what was measured into it"
    )
    return Difference(
        kind=Kind.UNKNOWN,
        reason=f"PCR {index} ({bank.label}) holds {held}, which no reference set knows "
        f"(nearest: {reference.id!r}): {where}. If this change was meant, update the reference "
        "values; if not, restore the machine",
    )


def _resting(key: PcrKey, resting: ReferenceSet) -> Difference:
    bank, index = key
    begin = f" from {resting.valid_from.isoformat()}" if resting.valid_from else ""
    end = f" until {resting.ends.isoformat()}" if resting.ends else ""
    return Difference(
        kind=Kind.RESTING,
        reason=f"PCR {index} ({bank.label}) holds what reference set {resting.id!r} says, but "
        f"that set is in force{begin}{end} only. Update the device, or prolong the set",
    )


def _first_stranger(
    state: MeasuredState, reference: ReferenceSet, bank: HashAlgorithm, index: int
) -> tuple[str | None, bool]:
    """Return words for the first event that the set has not seen, and whether a log explains."""
    events = state.events(bank, index)
    for event in events:
        digest = event.digest(bank)
        if digest is None or (index, digest) not in reference.events:
            shown = short_digest(digest) if digest else "no digest in this bank"
            name = event_type_name(event.type)
            return f"event {event.number} ({name}, {shown}) is the first one not seen before", True
    return None, bool(events)
