"""Cases of kind ``firmware-log``: N3, N5, N22, N23, N32, N45 and honest neighbours.

What is written in a form that no log has is in ``log_forms``.

The PCR values are proven (an honest quote showed them); only the log lies. ``seen`` cases give the
PCRs what the edited log says: then the log lies about what that was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.replay import replay
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from attestation.pcr import parse_selection
from attestation.reader import pack
from tests.conformance.cases import ROOT
from tests.conformance.generate.model import Json, case, file_blob, patches_between, pcrs
from tests.simulators.soft_device import SoftTpm

SHA256: Final = HashAlgorithm.SHA256
LOG: Final = "tests/data/google_go-eventlog/tpm/ubuntu-2104-no-dbx.bin"
LATE: Final = (8, 9, 14)
SELECTION: Final = "sha256:0,1,2,3,4,5,6,7,8,9,14"
_SEPARATOR_ENDS: Final = (
    "A separator ends what the firmware measures. Its type is not in its digest: a second or "
    "pretended one makes what comes later look like what came before."
)

Events = list[UnverifiedEvent]
Edit = Callable[[Events], Sequence[UnverifiedEvent]]


@cache
def original(path: str = LOG) -> bytes:
    """The log as it came from the machine."""
    return (ROOT / path).read_bytes()


def pieces(content: bytes, edit: Edit | None = None) -> list[bytes]:
    """The log cut into its events, edited or not; the header is the first."""
    events = list(parse_firmware_log(content).events)
    header, rest = events[0], list(events[1:]) if edit is None else edit(events[1:])
    sha1 = dict(header.digests)[HashAlgorithm.SHA1]
    first = pack("<II20sI", header.pcr, header.type, sha1, len(header.event)) + header.event
    return [first, *(written(event) for event in rest)]


def written(event: UnverifiedEvent) -> bytes:
    """One TCG_PCR_EVENT2."""
    return (
        pack("<III", event.pcr, event.type, len(event.digests))
        + b"".join(pack("<H", alg) + digest for alg, digest in event.digests)
        + pack("<I", len(event.event))
        + event.event
    )


def held_by(content: bytes, selection: str = SELECTION) -> dict[HashAlgorithm, dict[int, bytes]]:
    """The PCR values of a machine that measured this log."""
    asked = parse_selection(selection)
    tpm = SoftTpm(banks=tuple(one.bank for one in asked))
    tpm.load_pcrs(replay(parse_firmware_log(content), [one.bank for one in asked]).pcrs)
    return {bank: dict(values) for bank, values in tpm.read_pcrs(asked).items()}


def policy(**more: Any) -> Json:
    """What a verifier asks of a log: PCR 0 to 7 are explained, with their separators."""
    return {
        "selection": SELECTION,
        "log_required": list(range(8)),
        "separators": True,
        "event_contents": True,
        **more,
    }


def given(
    edit: Edit | None = None,
    *,
    patches: Sequence[Json] | None = None,
    seen: bool = False,
    path: str = LOG,
    held: dict[HashAlgorithm, dict[int, bytes]] | None = None,
    asked: Json | None = None,
) -> Json:
    """A log, edited, beside the proven PCR values."""
    before = pieces(original(path))
    after = before if edit is None else pieces(original(path), edit)
    changes = patches_between(before, after) if patches is None else list(patches)
    wanted = asked or policy()
    values = held or held_by(b"".join(after) if seen else original(path), wanted["selection"])
    return {"log": file_blob(path, changes), "pcrs": pcrs(values), "policy": wanted}


def refused(
    name: str,
    anchors: str,
    title: str,
    code: str,
    why: str,
    *,
    verdict: str = "refused",
    importance: str = "high",
    pcr: int | None = None,
    **how: Any,
) -> Json:
    """A log that must not be believed."""
    more = {} if pcr is None else {"pcr": pcr}
    return case(
        name,
        anchors,
        title,
        kind="firmware-log",
        given=given(**how),
        verdict=verdict,
        code=code,
        why=why,
        importance=importance,
        **more,
    )


def first(events: Sequence[UnverifiedEvent], pcr: int, kind: EventType | None = None) -> int:
    """The place of the first extending event of a PCR (and type)."""
    return next(
        place
        for place, event in enumerate(events)
        if event.pcr == pcr
        and event.type != EventType.NO_ACTION
        and (kind is None or event.type == kind)
    )


def measuring(like: UnverifiedEvent, pcr: int, kind: int, content: bytes) -> UnverifiedEvent:
    """An event that measures its content, in the banks of another."""
    digests = tuple((alg, HashAlgorithm(alg).digest(content)) for alg, _ in like.digests)
    return like._replace(pcr=pcr, type=int(kind), event=content, digests=digests)


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        *_honest(),
        *_second_separators(),
        *_false_separators(),
        *_contents(),
        *_coverage(),
        *_late(),
        *_no_action(),
        *_localities(),
    ]


def _honest() -> list[Json]:
    logs = {
        "vm": (LOG, "a virtual machine"),
        "locality-three": (
            "tests/data/immune-gmbh_guard-oss/bundle/latitude-7520/eventlog",
            "a laptop",
        ),
    }
    return [
        case(
            f"log-honest-{name}",
            "N3 N5 N22 N23 N24 N25 N26 N32",
            f"The whole log of {words} explains its PCRs",
            kind="firmware-log",
            given=given(path=path, asked=policy(separators=True)),
            verdict="accepted",
            why="The neighbour of every lying log.",
            importance="critical",
        )
        for name, (path, words) in logs.items()
    ]


def _second_separators() -> list[Json]:
    def twice(events: Events) -> Events:
        return [*events, events[first(events, 4, EventType.SEPARATOR)]]

    def hidden(events: Events) -> Events:
        place = first(events, 4, EventType.SEPARATOR)
        genuine = events[place]
        events[place] = genuine._replace(type=int(EventType.ACTION))
        return [*events, genuine]

    return [
        refused(
            "log-separator-twice",
            "N3",
            "A second separator is refused although the PCR agrees with it",
            "log-event-contradicts",
            _SEPARATOR_ENDS,
            edit=twice,
            seen=True,
            pcr=4,
        ),
        refused(
            "log-separator-hidden",
            "N3",
            "A genuine separator hidden under another type is refused",
            "log-event-contradicts",
            _SEPARATOR_ENDS,
            edit=hidden,
            seen=True,
            pcr=4,
        ),
    ]


def _false_separators() -> list[Json]:
    def pretended(events: Events) -> Events:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        events[place] = events[place]._replace(type=int(EventType.SEPARATOR))
        return events

    def odd(events: Events) -> Events:
        place = first(events, 6, EventType.SEPARATOR)
        events[place] = measuring(events[place], 6, EventType.SEPARATOR, b"\x05\x00\x00\x00")
        return events

    return [
        refused(
            "log-separator-pretended",
            "N3",
            "An application that calls itself a separator is refused",
            "log-event-contradicts",
            _SEPARATOR_ENDS,
            edit=pretended,
            pcr=4,
        ),
        refused(
            "log-separator-with-other-content",
            "N3",
            "A separator that measures something else than a separator does is refused",
            "log-event-contradicts",
            _SEPARATOR_ENDS,
            edit=odd,
            seen=True,
            pcr=6,
        ),
    ]


def _contents() -> list[Json]:
    def switched(events: Events) -> Events:
        place = first(events, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG)
        content = events[place].event
        events[place] = events[place]._replace(event=content[:-1] + bytes([content[-1] ^ 1]))
        return events

    def digest(events: Events) -> Events:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        digests = tuple((alg, bytes(len(value))) for alg, value in events[place].digests)
        events[place] = events[place]._replace(digests=digests)
        return events

    def removed(events: Events) -> Events:
        del events[first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)]
        return events

    return [
        refused(
            "log-content-not-measured",
            "N5",
            "A Secure Boot variable whose content is not what was measured is refused",
            "log-event-contradicts",
            "Digests and replay are right, the words beside the digest are not: whoever reads the "
            "words is told that Secure Boot is on.",
            edit=switched,
            pcr=7,
            importance="critical",
        ),
        refused(
            "log-digest-changed",
            "N5",
            "A log with another boot loader's digest does not lead to the PCR",
            "log-replay-mismatch",
            "The replay is the only proof of an event.",
            edit=digest,
            pcr=4,
            importance="critical",
        ),
        refused(
            "log-event-removed",
            "N5 N22",
            "A log without the event of a boot loader does not lead to the PCR",
            "log-replay-mismatch",
            "The replay is the only proof that nothing was left out.",
            edit=removed,
            pcr=4,
            importance="critical",
        ),
    ]


def _coverage() -> list[Json]:
    return [
        refused(
            f"log-stripped-of-pcr-{pcr}",
            "N22",
            f"A log without any event of PCR {pcr} is refused",
            "pcr-not-covered",
            "A replay of nothing agrees with everything: an absent PCR is not one that agrees.",
            edit=lambda events, pcr=pcr: [one for one in events if one.pcr != pcr],  # type: ignore[misc]
            pcr=pcr,
            importance="critical",
        )
        for pcr in (0, 4, 7)
    ]


def _late() -> list[Json]:
    def without_nine(events: Events) -> Events:
        return [one for one in events if one.pcr != 9]

    held = held_by(original())
    late = {"reference": pcrs({SHA256: {index: held[SHA256][index] for index in LATE}})}
    changed = {SHA256: {**held[SHA256], 9: SHA256.digest(held[SHA256][9] + bytes(32))}}
    known_late = {"reference": pcrs({SHA256: {index: changed[SHA256][index] for index in LATE}})}
    return [
        case(
            "log-late-pcr-not-covered",
            "N45",
            "A late PCR that the log does not cover is told as such, and rests on its value",
            kind="firmware-log",
            given=given(without_nine, asked=policy(**late)),
            verdict="accepted",
            told=["pcr-not-covered"],
            why="systemd and IMA extend PCRs after the firmware's log ends: no alarm for ever, and "
            "never silently fine.",
        ),
        refused(
            "log-late-pcr-with-another-value",
            "N45",
            "A late PCR that no log covers and that holds another value than known is refused",
            "reference-mismatch",
            "What no log explains has nothing but its value to speak for it.",
            edit=without_nine,
            held=changed,
            asked=policy(**late),
            pcr=9,
        ),
        refused(
            "log-late-pcr-extended-beyond-it",
            "N45",
            "A late PCR that the log covers in part only, with an unknown value, is refused",
            "log-replay-mismatch",
            "A log that explains half of a PCR explains none of it.",
            held=changed,
            asked=policy(**late),
            pcr=9,
        ),
        case(
            "log-late-pcr-extended-to-a-known-value",
            "N45",
            "A late PCR that is extended after the log ends rests on its known value, and says so",
            kind="firmware-log",
            given=given(held=changed, asked=policy(**known_late)),
            verdict="accepted",
            told=["pcr-not-covered"],
            why="systemd extends PCRs after the firmware's log ends: no false alarm for ever.",
        ),
    ]


def _no_action() -> list[Json]:
    def relabelled(events: Events) -> Events:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        events[place] = events[place]._replace(type=int(EventType.NO_ACTION))
        return events

    def hidden(events: Events) -> Events:
        like = events[first(events, 4)]
        return [*events, measuring(like, 4, EventType.NO_ACTION, b"loader")]

    held = held_by(original())
    extended = SHA256.digest(held[SHA256][4] + SHA256.digest(b"loader"))
    return [
        refused(
            "log-extend-called-no-action",
            "N32",
            "An event that extended, relabelled EV_NO_ACTION, breaks the replay",
            "log-replay-mismatch",
            "EV_NO_ACTION extends nothing: who skips it sees that something is missing.",
            edit=relabelled,
            pcr=4,
        ),
        refused(
            "log-no-action-explains-nothing",
            "N32",
            "An EV_NO_ACTION event does not explain an extend",
            "log-replay-mismatch",
            "Replayed as an extend it would explain what nobody logged.",
            edit=hidden,
            held={SHA256: {**held[SHA256], 4: extended}},
            pcr=4,
        ),
    ]


def _stated(like: UnverifiedEvent, locality: int) -> UnverifiedEvent:
    digests = tuple((alg, bytes(len(value))) for alg, value in like.digests)
    content = b"StartupLocality\x00" + bytes([locality])
    return like._replace(pcr=0, type=int(EventType.NO_ACTION), digests=digests, event=content)


def _localities() -> list[Json]:
    def early(locality: int) -> Edit:
        return lambda events: [_stated(events[0], locality), *events]

    def late(events: Events) -> Events:
        place = first(events, 0) + 1
        return [*events[:place], _stated(events[0], 3), *events[place:]]

    def twice(events: Events) -> Events:
        return [_stated(events[0], 3), _stated(events[0], 3), *events]

    why = (
        "The locality of TPM2_Startup is in PCR 0's start value: stated late, twice or wrongly it "
        "explains a PCR 0 that the log does not lead to."
    )
    return [
        refused(
            "log-locality-forged",
            "N23",
            "A startup locality that the machine did not start in breaks the replay of PCR 0",
            "log-replay-mismatch",
            why,
            edit=early(3),
            pcr=0,
        ),
        refused(
            "log-locality-impossible",
            "N23",
            "A startup locality other than 0, 3 or 4 is malformed",
            "log-malformed",
            why,
            edit=early(1),
            held=held_by(original()),
            verdict="malformed",
        ),
        refused(
            "log-locality-late",
            "N23",
            "A startup locality stated after PCR 0 was extended is malformed",
            "log-malformed",
            why,
            edit=late,
            held=held_by(original()),
            verdict="malformed",
        ),
        refused(
            "log-locality-twice",
            "N23",
            "A startup locality stated twice is malformed",
            "log-malformed",
            why,
            edit=twice,
            held=held_by(original()),
            verdict="malformed",
        ),
    ]
