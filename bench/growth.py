"""What one appraisal costs with many devices, many reference sets and long logs, against few.

Each figure is a ratio of two things timed in turn: 1 means that the number does not matter.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from attestation.algorithms import HashAlgorithm
from attestation.identity import DeviceId
from attestation.logs.event_types import EventType
from bench.appraisal import judged, ring_in
from bench.inputs import LINUX_SERVER, Machine, largest_firmware_log, machine
from bench.measure import Bench, Line, compare
from tests.verifier.attacks.log_forge import forge, measured
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.replay_cache import ReplayCache, judge_log
from verifier.keys.ring import KeyRing
from verifier.reference_values.model import ReferenceLibrary, ReferenceSet

_FLEETS = {"appraisal_fleet_100_vs_1": 100, "appraisal_fleet_10k_vs_1": 10_000}
_KEYS = 16
"""Different attestation keys in a fleet; each device has its own enrolment and parsed key."""

_SETS = 1_000
_SHORT, _LONG = 1_000, 10_000


def fleets() -> Iterator[Line]:
    """Time the repeated appraisal of the devices of a fleet, in turn, against that of one."""
    makes = [machine(largest_firmware_log(trusted=True)) for _ in range(_KEYS)]
    policy, reference = makes[0].policy, makes[0].reference
    kinds = [replace(one, policy=policy, reference=reference) for one in makes]
    with tempfile.TemporaryDirectory() as folder:
        ring = ring_in(Path(folder))
        for name, size in _FLEETS.items():
            alone, all_of_them = _in_turn(kinds, 1, ring), _in_turn(kinds, size, ring)
            _, _, ratio = compare(all_of_them, alone, total_s=6.0)
            yield _against(name, ratio, "one device")


def _in_turn(kinds: list[Machine], size: int, ring: KeyRing) -> Callable[[], object]:
    """Return a call that judges the next of so many known devices, each with its own evidence."""
    now = datetime.now(UTC)
    replays = ReplayCache()
    sent: list[tuple[Machine, bytes]] = []
    for number, kind in zip(range(size), itertools.cycle(kinds), strict=False):
        device = DeviceId(f"box-{number}")
        one = replace(kind, enrolment=replace(kind.enrolment, device=device))
        sent.append((one, one.evidence(now, whole_log=False, boot_id=f"{number:036}")))
    first = sent[0][0]
    judged(first, ring, first.evidence(now, whole_log=True), replays, now)
    everyone = itertools.cycle(sent)

    def judge_next() -> str:
        one, evidence = next(everyone)
        return judged(one, ring, evidence, replays, now)

    for _ in sent:
        judge_next()
    return judge_next


def sets() -> Iterator[Line]:
    """Time an appraisal whose judgement is not remembered, by many sets and words and by few."""
    few = machine(largest_firmware_log(trusted=True))
    [known] = few.reference.sets
    words = ", ".join(f'"word{number}=*"' for number in range(_SETS))
    text = LINUX_SERVER.read_text(encoding="utf-8").replace(
        "forbidden = [", f"forbidden = [ {words},", 1
    )
    many = replace(
        few,
        policy=load_policy(text, "many words"),
        reference=ReferenceLibrary(
            sets=(*(_stranger(known, number) for number in range(_SETS - 1)), known)
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        ring = ring_in(Path(folder))
        _, _, ratio = compare(_anew(many, ring), _anew(few, ring), total_s=6.0)
    yield _against("appraisal_sets_1000_vs_1", ratio, "one set and the packaged policy")


def _stranger(known: ReferenceSet, number: int) -> ReferenceSet:
    """Return a set of another machine: every value another one."""
    pcrs = {
        bank: {
            index: frozenset((bank.digest(bytes((index,)) + number.to_bytes(4)),))
            for index in values
        }
        for bank, values in known.pcrs.items()
    }
    return replace(known, name=f"other-{number}", pcrs=pcrs)


def _anew(subject: Machine, ring: KeyRing) -> Callable[[], object]:
    """Return a call that judges with the log known, the judgement not."""
    now = datetime.now(UTC)
    replays = ReplayCache()
    judged(subject, ring, subject.evidence(now, whole_log=True), replays, now)
    log = replays.get((hashlib.sha256(subject.log).digest(), subject.policy.banks))
    if log is None:
        raise RuntimeError("the bench's own log is not remembered")
    evidence = subject.evidence(now, whole_log=False)

    def judge() -> str:
        log.judgements.clear()
        return judged(subject, ring, evidence, replays, now)

    return judge


def log_growth() -> Iterator[Line]:
    """Time what one event costs in a log of 10 000, against one of 1 000."""
    bank = HashAlgorithm.SHA256
    proven = frozenset(range(16))
    short, long = _log_of(_SHORT), _log_of(_LONG)

    def read(content: bytes) -> object:
        return judge_log(content, (bank,)).boot_facts(bank, proven)

    _, _, ratio = compare(lambda: read(long), lambda: read(short), total_s=10.0)
    yield _against("appraisal_log_growth", ratio * _SHORT / _LONG, f"{_SHORT} events")


def _log_of(events: int) -> bytes:
    """Return a real log whose boot loader went on to measure files."""
    return forge(
        largest_firmware_log(trusted=True),
        lambda there: [
            *there,
            *(
                measured(
                    there[-1], pcr=9, kind=EventType.IPL, content=f"(hd0,gpt2)/{number}".encode()
                )
                for number in range(events - len(there))
            ),
        ],
    )


def _against(name: str, ratio: float, base: str) -> Line:
    return Line(name=name, value=ratio, unit="ratio", vs=base, ratio=ratio)


BENCHES = (
    Bench(names=tuple(_FLEETS), run=fleets),
    Bench(names=("appraisal_sets_1000_vs_1",), run=sets),
    Bench(names=("appraisal_log_growth",), run=log_growth),
)
