"""Cases of kind ``firmware-log`` that ask for boot facts: N1 to N5 and N27 to N31.

Nearly all are ``seen``: the PCRs agree with the edited log, so only its meaning is at stake.
"""

from __future__ import annotations

from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from attestation.reader import pack
from attestation.uefi.guid import CERT_SHA256, GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from tests.conformance.generate.device import seed
from tests.conformance.generate.logs import (
    LOG,
    Edit,
    Events,
    first,
    given,
    measuring,
    original,
    policy,
    refused,
)
from tests.conformance.generate.model import Json, case
from tests.simulators.uefi import OWNER, hash_list, tagged, variable

SECURE: Final = "tests/data/immune-gmbh_guard-oss/bundle/good-1/eventlog"
SHIM: Final = "tests/data/tpm2-software_tpm2-tools/event-postcode.bin"
WINDOWS_PCRS: Final = "sha256:0,1,2,3,4,5,6,7,12"
_CONFIG: Final = EventType.EFI_VARIABLE_DRIVER_CONFIG
_AUTHORITY: Final = EventType.EFI_VARIABLE_AUTHORITY
_APPLICATION: Final = EventType.EFI_BOOT_SERVICES_APPLICATION
_LEFT: Final = b"Exit Boot Services Returned with Success"


def asked(**more: Any) -> Json:
    """What a verifier asks of a boot: Secure Boot on, and the end of boot services seen."""
    boot: Json = {"secure_boot": "on", "exit_boot_services": True}
    boot.update(more)
    return policy(boot={name: value for name, value in boot.items() if value is not None})


def seen(edit: Edit, path: str = SECURE, **more: Any) -> Json:
    """A boot that really measured the edited log."""
    return {"edit": edit, "path": path, "seen": True, "asked": asked(**more)}


def named(events: Events, name: str) -> int:
    """The place of the first variable of this name in PCR 7."""
    wanted = name.encode("utf-16-le")
    return next(
        place
        for place, event in enumerate(events)
        if event.pcr == 7 and event.event[32 : 32 + len(wanted)] == wanted
    )


def with_variable(name: str, data: bytes, *, content: bytes | None = None) -> Edit:
    """Measure other data for a variable of PCR 7."""
    vendor = GLOBAL_VARIABLE if name == "SecureBoot" else IMAGE_SECURITY_DATABASE

    def edit(events: Events) -> Events:
        place = named(events, name)
        told = variable(name, data, vendor) if content is None else content
        events[place] = measuring(events[place], 7, _CONFIG, told)
        return events

    return edit


def added(pcr: int, kind: int, content: bytes, *, after: bytes = b"") -> Edit:
    """Measure one event more, at the end or behind the event of a content."""

    def edit(events: Events) -> Events:
        new = measuring(events[first(events, pcr)], pcr, kind, content)
        if not after:
            return [*events, new]
        place = next(n for n, event in enumerate(events) if event.event == after)
        return [*events[: place + 1], new, *events[place + 1 :]]

    return edit


def relabelled(pcr: int, kind: EventType, new: int) -> Edit:
    """Call the first event of a kind something else."""

    def edit(events: Events) -> Events:
        place = first(events, pcr, kind)
        events[place] = events[place]._replace(type=new)
        return events

    return edit


def accepted(name: str, anchors: str, title: str, why: str, how: Json, **more: Any) -> Json:
    """A boot that is believed."""
    return case(
        name,
        anchors,
        title,
        kind="firmware-log",
        given=given(**{**how, "edit": how.get("edit")}),
        verdict="accepted",
        why=why,
        **more,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        *_honest(),
        *_types(),
        *_variables(),
        *_separators(),
        *_applications(),
        *_signature_lists(),
        *_signature_list_headers(),
        *_lengths(),
        *_shim(),
        *_nesting(),
    ]


def _honest() -> list[Json]:
    return [
        accepted(
            "boot-honest",
            "N1 N2 N3 N4 N5 N27 N29",
            "A real boot with Secure Boot on is read whole and believed",
            "The neighbour of every boot that is not.",
            {"path": SECURE, "asked": asked()},
            importance="critical",
            facts={"secure_boot": True, "exit_boot_services": True, "dbx_entries": 77},
        ),
        refused(
            "boot-secure-boot-off",
            "N29",
            "A real boot with Secure Boot off is refused where it must be on",
            "secure-boot-off",
            "What is asked for is looked for in proven events.",
            path=LOG,
            asked=asked(),
            pcr=7,
        ),
    ]


def _types() -> list[Json]:
    why = (
        "An event's type is in no digest. Whoever may call an event by a type that nobody reads "
        "hides the real one and shows his own (go-attestation, event-log-disclosure)."
    )

    def hidden(events: Events) -> Events:
        place = named(events, "SecureBoot")
        on = events[place]
        off = measuring(on, 7, 0x0000AAAA, variable("SecureBoot", b"\0"))
        return [*events[:place], off, *events[place:]]

    return [
        refused(
            "boot-variable-hidden-under-an-unknown-type",
            "N1 N2",
            "Secure Boot off under an unknown type, and on beside it, is refused",
            "event-type-unknown",
            why,
            **seen(hidden),
            pcr=7,
            importance="critical",
        ),
        refused(
            "boot-variable-called-unused",
            "N1",
            "A Secure Boot key relabelled EV_UNUSED is refused although the log replays",
            "event-type-unknown",
            why,
            edit=relabelled(7, _CONFIG, 1),
            path=SECURE,
            asked=asked(),
            pcr=7,
            importance="critical",
        ),
        refused(
            "boot-application-called-something-else",
            "N1 N4",
            "A boot loader relabelled as an unknown event is refused although the log replays",
            "event-type-unknown",
            why,
            edit=relabelled(4, _APPLICATION, 0x8000_00FF),
            path=SECURE,
            asked=asked(),
            pcr=4,
            importance="critical",
        ),
    ]


def _variables() -> list[Json]:
    why = (
        "The firmware measures each variable once, before the separator. Whoever runs later may "
        "measure another: a reader that takes the last believes him."
    )

    def twice(events: Events) -> Events:
        place = named(events, "SecureBoot")
        on = measuring(events[place], 7, _CONFIG, variable("SecureBoot", b"\1"))
        return [*events[: place + 1], on, *events[place + 1 :]]

    late = added(7, _CONFIG, variable("SecureBoot", b"\1"))
    return [
        refused(
            "boot-secure-boot-stated-twice",
            "N2",
            "SecureBoot measured off and then on is refused",
            "event-undecodable",
            why,
            **seen(twice, LOG),
            pcr=7,
            importance="critical",
        ),
        refused(
            "boot-secure-boot-stated-late",
            "N2 N3",
            "SecureBoot measured on after the separator is refused",
            "event-undecodable",
            why,
            **seen(late, LOG),
            pcr=7,
            importance="critical",
        ),
        refused(
            "boot-database-stated-late",
            "N2 N3",
            "A second db measured after the separator is refused",
            "event-undecodable",
            why,
            **seen(added(7, _CONFIG, variable("db", b"", IMAGE_SECURITY_DATABASE))),
            pcr=7,
        ),
    ]


def _separators() -> list[Json]:
    def ones(events: Events) -> Events:
        place = first(events, 7, EventType.SEPARATOR)
        events[place] = measuring(events[place], 7, EventType.SEPARATOR, b"\xff" * 4)
        return events

    return [
        refused(
            "boot-separator-of-ones-in-pcr-7",
            "N3",
            "A separator of FFFFFFFF in PCR 7 is refused",
            "log-event-contradicts",
            "In PCR 7 only four zero bytes end the firmware's part; ones are what anybody may "
            "measure to look like an end.",
            **seen(ones),
            pcr=7,
        )
    ]


def _applications() -> list[Json]:
    why = (
        "After ExitBootServices the operating system may extend PCR 4 with the digest of a good "
        "boot loader: it counts only from the call of a boot option to the end of boot services."
    )

    def silent(events: Events) -> Events:
        return [one for one in events if one.event != _LEFT]

    def moved(events: Events) -> Events:
        place = first(events, 4, _APPLICATION)
        content = bytearray(events[place].event)
        content[-8] ^= 0x20
        events[place] = events[place]._replace(event=bytes(content))
        return events

    again = added(4, _APPLICATION, b"a good boot loader, measured late")
    return [
        refused(
            "boot-application-after-boot-services",
            "N4",
            "A boot application measured after ExitBootServices is refused",
            "event-undecodable",
            why,
            **seen(again),
            pcr=4,
            importance="critical",
        ),
        refused(
            "boot-end-of-boot-services-not-seen",
            "N4",
            "A boot whose ExitBootServices was not seen is refused where it must be",
            "boot-fact-missing",
            why + " Without the end no application may be claimed at all.",
            **seen(silent),
        ),
        accepted(
            "boot-path-of-an-application-is-no-proof",
            "N5",
            "Another path in the words of a boot application changes nothing that is believed",
            "The digest of an image is that of its code; the path beside it is anybody's word.",
            {"edit": moved, "path": SECURE, "asked": asked()},
            facts={"boot_applications": [_digest_of_application()]},
        ),
    ]


def _digest_of_application() -> str:
    events: list[UnverifiedEvent] = list(parse_firmware_log(original(SECURE)).events)
    return dict(events[first(events, 4, _APPLICATION)].digests)[HashAlgorithm.SHA256].hex()


def _lists(list_size: int, header_size: int, size: int, body: bytes) -> bytes:
    return pack("<16sIII", CERT_SHA256, list_size, header_size, size) + body


def _forbidden() -> bytes:
    return OWNER + seed("a forbidden hash")


def _signature_lists() -> list[Json]:
    entry = _forbidden()
    told = {
        "list-size-zero": (_lists(0, 0, 48, entry), "a list that announces no bytes"),
        "list-size-below-its-header": (_lists(27, 0, 48, entry), "a list below its own header"),
        "list-size-beyond-the-data": (_lists(28 + 49, 0, 48, entry), "a list beyond its data"),
        "list-size-four-gigabytes": (
            _lists(0xFFFFFFFF, 0, 48, entry),
            "a list of four gigabytes",
        ),
        "entry-size-four-gigabytes": (
            _lists(28 + 48, 0, 0xFFFFFFFF, entry),
            "entries of four gigabytes",
        ),
        "entry-size-of-its-owner-alone": (
            _lists(28 + 48, 0, 16, entry),
            "entries with no room for a signature",
        ),
    }
    return [
        refused(
            f"boot-dbx-{name}",
            "N27",
            f"A dbx with {words} is refused, and read by nobody",
            "event-undecodable",
            "Sizes subtracted in 32 bits wrap round; a reader that then stops early misses "
            "revocations, one that does not reads what is not there.",
            **seen(with_variable("dbx", data)),
            pcr=7,
        )
        for name, (data, words) in told.items()
    ]


def _signature_list_headers() -> list[Json]:
    entry = _forbidden()
    header = OWNER + seed("a hash in the header")
    whole = _lists(28 + 48 + 48, 48, 48, header + entry)
    odd = _lists(28 + 40 + 56, 40, 48, header[:40] + entry + bytes(8))
    return [
        accepted(
            "boot-dbx-header-passed-over",
            "N28",
            "Bytes of a signature list's header are passed over, not read as hashes",
            "The maker's header may hold anything: read as an entry it allows what it likes.",
            seen(with_variable("dbx", whole)),
            facts={"dbx_entries": 1},
        ),
        refused(
            "boot-dbx-entries-that-do-not-divide",
            "N28",
            "A signature list whose entries do not divide it exactly is refused",
            "event-undecodable",
            "What is left over belongs to a reader that counted another way.",
            **seen(with_variable("dbx", odd)),
            pcr=7,
        ),
        refused(
            "boot-dbx-header-beyond-the-list",
            "N28",
            "A signature list whose header is longer than the list is refused",
            "event-undecodable",
            "The entries would begin behind the end.",
            **seen(with_variable("dbx", _lists(28 + 48, 49, 48, entry))),
            pcr=7,
        ),
        accepted(
            "boot-dbx-whole",
            "N27 N28",
            "A dbx of two lists is read whole",
            "The neighbour of the lists that are not.",
            seen(with_variable("dbx", hash_list(seed("1")) + hash_list(seed("2"), seed("3")))),
            facts={"dbx_entries": 3},
        ),
    ]


def _lengths() -> list[Json]:
    fixed = pack("<16sQQ", GLOBAL_VARIABLE, 10, 1)
    name = "SecureBoot".encode("utf-16-le")
    told = {
        "name-length-huge": pack("<16sQQ", GLOBAL_VARIABLE, 2**63, 1) + name + b"\1",
        "data-length-beyond-the-event": pack("<16sQQ", GLOBAL_VARIABLE, 10, 2) + name + b"\1",
        "data-length-short-of-the-event": fixed + name + b"\1\1",
        "value-two": fixed + name + b"\2",
        "value-of-two-bytes": pack("<16sQQ", GLOBAL_VARIABLE, 10, 2) + name + b"\1\0",
    }
    made = [
        refused(
            f"boot-secure-boot-{word}",
            "N29",
            f"SecureBoot with {word.replace('-', ' ')} is refused",
            "event-undecodable",
            "Lengths are exact and the value is 0 or 1; whatever else is nobody's Secure Boot.",
            **seen(with_variable("SecureBoot", b"", content=content)),
            pcr=7,
        )
        for word, content in told.items()
    ]
    made.append(
        refused(
            "boot-secure-boot-empty",
            "N29",
            "A SecureBoot variable without data is Secure Boot off",
            "secure-boot-off",
            "A variable that does not exist is measured empty: firmware without Secure Boot.",
            **seen(with_variable("SecureBoot", b"")),
            pcr=7,
        )
    )
    return made


def _shim() -> list[Json]:
    def surplus(count: int) -> Edit:
        def edit(events: Events) -> Events:
            place = first(events, 7, _AUTHORITY)
            content = events[place].event + bytes(count)
            like = measuring(events[place], 7, _AUTHORITY, content[:-1])
            events[place] = like._replace(event=content)
            return events

        return edit

    why = (
        "Old shim logs its own variable with six bytes too many and hashes all but the last. "
        "Tolerated for any variable it lets bytes into the log that nobody measured."
    )
    return [
        accepted(
            "boot-shim-surplus",
            "N30",
            "Old shim's surplus bytes behind its own variable are tolerated, by name",
            "The neighbour: real machines boot so.",
            {"path": SHIM, "asked": asked(exit_boot_services=None)},
            facts={"secure_boot": True},
        ),
        *(
            refused(
                f"boot-surplus-of-{count}-behind-another-variable",
                "N30",
                f"{count} surplus bytes behind the firmware's own variable are refused",
                "log-event-contradicts",
                why,
                **seen(surplus(count)),
                pcr=7,
            )
            for count in (1, 6)
        ),
    ]


def _nesting() -> list[Json]:
    def nested(depth: int) -> bytes:
        content = tagged(0x00010001, b"end")
        for _ in range(depth):
            content = tagged(0x40010001, content)
        return content

    def windows(content: bytes) -> Json:
        edit = added(4, EventType.EVENT_TAG, content)

        def into_twelve(events: Events) -> Events:
            made = list(edit(events))
            made[-1] = made[-1]._replace(pcr=12)
            return made

        chosen = seen(into_twelve)
        return {**chosen, "asked": {**chosen["asked"], "selection": WINDOWS_PCRS}}

    why = (
        "A reader that calls itself for each level runs out of stack (GHSA-hcm6-rjfh-f25p): depth "
        "and sizes are bounded before anything is entered."
    )
    oversized = pack("<II", 0x40010001, 0xFFFFFFF8) + bytes(8)
    return [
        accepted(
            "boot-windows-events",
            "N31",
            "Nested Windows events of the usual depth are replayed",
            "The neighbour of the nests that are too deep.",
            windows(nested(3)),
        ),
        accepted(
            "boot-windows-events-nested-deep",
            "N31",
            "Windows events nested five hundred deep are replayed, and entered by nobody",
            why + " Here they are only replayed; a verifier that reads them may refuse them.",
            windows(nested(500)),
        ),
        refused(
            "boot-windows-event-of-four-gigabytes",
            "N31",
            "A Windows event that announces four gigabytes ends as a refusal",
            "event-undecodable",
            why,
            **windows(oversized),
            pcr=12,
        ),
    ]
