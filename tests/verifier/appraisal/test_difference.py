"""What changed from one boot to another, told from replayed events only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attestation.algorithms import HashAlgorithm
from attestation.boot.facts import (
    BootFacts,
    Fact,
    Image,
    ImageKind,
    MeasuredFile,
    Proof,
    SignatureDatabase,
)
from attestation.logs.event_types import EventType
from attestation.logs.replay import ReplayedLog, replay
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from tests.simulators.uefi import certificate_named
from tests.verifier.appraisal.courtroom import DATA, SHA256, firmware_log, replayed_log
from tests.verifier.attacks.log_forge import Edit, first, forge, measured
from verifier.appraisal.difference import Difference, Snapshot, differences, snapshot
from verifier.appraisal.fact_changes import fact_changes

Events = list[UnverifiedEvent]
CERT_SHA256 = bytes.fromhex("2616c4c14c509240aca941f936934328")
"""EFI_CERT_SHA256_GUID as in memory (UEFI 2.10, 32.4.1)."""
PREFIX = b"grub_kernel_cmdline "


def of_log(log: ReplayedLog) -> Snapshot:
    return snapshot(SHA256, log.pcrs[SHA256], log)


def edited(edit: Edit) -> ReplayedLog:
    return replay(parse_firmware_log(forge(firmware_log(), edit)), (SHA256,))


def changed(edit: Edit) -> tuple[Difference, ...]:
    return differences(of_log(replayed_log()), of_log(edited(edit)))


def sentences(found: Sequence[Difference]) -> list[str]:
    return [one.sentence for one in found]


def test_same_boot_has_no_difference() -> None:
    assert differences(of_log(replayed_log()), of_log(replayed_log())) == ()


def test_dbx_that_grew_is_counted() -> None:
    def edit(events: Events) -> Events:
        place = next(
            number
            for number, event in enumerate(events)
            if event.type == EventType.EFI_VARIABLE_DRIVER_CONFIG
            and "dbx".encode("utf-16-le") in event.event[:64]
        )
        content = events[place].event
        name_chars = int.from_bytes(content[16:24], "little")
        start = 32 + 2 * name_chars
        data = content[start:]
        three = b"".join(bytes(16) + bytes([number]) * 32 for number in (1, 2, 3))
        sizes = b"".join(number.to_bytes(4, "little") for number in (28 + len(three), 0, 48))
        more = CERT_SHA256 + sizes + three
        size = int.from_bytes(content[24:32], "little") + len(more)
        grown = content[:24] + size.to_bytes(8, "little") + content[32:start] + data + more
        events[place] = measured(
            events[place], pcr=7, kind=EventType.EFI_VARIABLE_DRIVER_CONFIG, content=grown
        )
        return events

    assert sentences(changed(edit)) == ["PCR 7 changed because dbx grew by 3 entries"]


def test_command_line_is_compared_by_words() -> None:
    def edit(events: Events) -> Events:
        place = next(n for n, one in enumerate(events) if one.event.startswith(PREFIX))
        line = (
            events[place].event.removeprefix(PREFIX).rstrip(b"\0").replace(b" ro ", b" ro debug ")
        )
        digests = tuple((alg, HashAlgorithm(alg).digest(line)) for alg, _ in events[place].digests)
        events[place] = events[place]._replace(event=PREFIX + line + b"\0", digests=digests)
        return events

    assert sentences(changed(edit)) == [
        "PCR 8 changed because the kernel command line: added 'debug'"
    ]


def test_boot_loader_that_was_replaced_is_named_by_its_digest() -> None:
    def edit(events: Events) -> Events:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        digests = tuple((alg, b"\x66" * len(digest)) for alg, digest in events[place].digests)
        events[place] = events[place]._replace(digests=digests)
        return events

    (found,) = changed(edit)

    assert (found.pcr, found.kind, found.explained) == (4, "image", True)
    assert "was replaced by application 6666666666666666…" in found.words


def test_event_that_is_no_fact_is_told_as_an_event() -> None:
    def edit(events: Events) -> Events:
        like = events[first(events, 6)]
        more = measured(like, pcr=6, kind=EventType.COMPACT_HASH, content=b"more")
        return [*events, more]

    (found,) = changed(edit)

    assert (found.pcr, found.kind) == (6, "events")
    assert found.words.startswith("1 event came (first: event 8")


def test_same_events_in_another_order_are_told_as_that() -> None:
    def edit(events: Events) -> Events:
        places = [
            n for n, event in enumerate(events) if event.pcr == 14 and event.type == EventType.IPL
        ][:2]
        events[places[0]], events[places[1]] = events[places[1]], events[places[0]]
        return events

    assert [(one.pcr, one.kind) for one in changed(edit)] == [(14, "order")]


def test_pcr_that_no_log_explains_is_said_to_be_that() -> None:
    before = of_log(replayed_log())
    held = {**before.values, 9: b"\x66" * 32}

    (found,) = differences(before, snapshot(SHA256, held, replayed_log()))

    assert not found.explained
    assert found.sentence == "PCR 9 changed, and no log explains its value after"


def test_words_of_a_log_that_does_not_replay_are_not_believed() -> None:
    def edit(events: Events) -> Events:
        place = next(n for n, one in enumerate(events) if one.event.startswith(PREFIX))
        events[place] = events[place]._replace(
            event=events[place].event.replace(b" ro ", b" ro lie "),
            digests=tuple((alg, bytes(len(digest))) for alg, digest in events[place].digests),
        )
        return events

    lying = snapshot(SHA256, {**replayed_log().pcrs[SHA256], 8: b"\x66" * 32}, edited(edit))

    found = differences(of_log(replayed_log()), lying)

    assert [(one.pcr, one.kind) for one in found] == [(8, "unexplained")]


def test_evidence_without_log_explains_nothing() -> None:
    values = replayed_log().pcrs[SHA256]
    other = {**values, 4: b"\x66" * 32}

    (found,) = differences(snapshot(SHA256, values, None), snapshot(SHA256, other, None))

    assert found.sentence == "PCR 4 changed, and no log explains its value before and after"


def test_pcr_that_only_one_side_tells_is_named() -> None:
    before = of_log(replayed_log())
    fewer = {pcr: value for pcr, value in before.values.items() if pcr != 14}

    (found,) = differences(before, snapshot(SHA256, fewer, replayed_log()))

    assert (found.pcr, found.kind) == (14, "selection")


def test_another_machine_differs_in_secure_boot_and_boot_order() -> None:
    other = replayed_log(DATA / "google_go-eventlog/tpm/ubuntu-2104-no-dbx.bin")

    said = sentences(differences(of_log(replayed_log()), of_log(other)))

    assert "PCR 7 changed because Secure Boot was switched off" in said
    assert (
        "PCR 1 changed because the boot order changed from 0002, 0000, 0001 to "
        "0003, 0000, 0001, 0002"
    ) in said


def proven(value: object, pcr: int = 7) -> Fact[object]:
    return Fact(value, (Proof(pcr, 3),))


def words(before: BootFacts, after: BootFacts) -> list[str]:
    return [one.words for one in fact_changes(before, after)]


def test_database_names_its_certificates() -> None:
    def held(*names: str, hashes: frozenset[bytes] = frozenset(), mark: bytes = b"") -> BootFacts:
        made = SignatureDatabase(
            certificates={name.encode(): certificate_named(name) for name in names},
            hashes=hashes,
            others=0,
            digest=repr((names, hashes, mark)).encode(),
        )
        return BootFacts(databases={"db": Fact(made, (Proof(7, 3),))})

    assert words(held("A"), held("A", "B")) == ["db grew by 1 entry; added certificate CN=B"]
    assert words(held("A"), held("B")) == [
        "db has other entries (1 as before); added certificate CN=B; removed certificate CN=A"
    ]
    assert words(held(hashes=frozenset({b"1", b"2"})), held(hashes=frozenset({b"3"}))) == [
        "db shrank by 1 entry; 2 hashes of before are not in it"
    ]
    assert words(held("A"), held("A")) == []


def test_facts_that_come_and_go_are_told() -> None:
    with_initrd = BootFacts(
        loader_files=(Fact(MeasuredFile(name="/initrd", digest=b"\x01" * 32), (Proof(9, 3),)),)
    )
    other = BootFacts(
        loader_files=(Fact(MeasuredFile(name="/initrd", digest=b"\x02" * 32), (Proof(9, 3),)),)
    )

    assert words(with_initrd, other) == [
        "file /initrd was replaced (0202020202020202…, before 0101010101010101…)"
    ]
    assert words(BootFacts(), other) == ["file /initrd was added (0202020202020202…)"]
    assert words(other, BootFacts()) == ["file /initrd is gone"]
    assert words(BootFacts(), BootFacts(boot_order=Fact((1,), (Proof(1, 3),)))) == [
        "the boot order is measured now (0001)"
    ]
    assert words(BootFacts(boot_order=Fact((1,), (Proof(1, 3),))), BootFacts()) == [
        "the boot order is not measured any more (it was 0001)"
    ]


def test_an_image_is_replaced_by_one_of_its_own_pcr() -> None:
    def image(kind: ImageKind, pcr: int, mark: bytes) -> Fact[Image]:
        made = Image(
            kind=kind,
            digest=mark * 32,
            before_separator=False,
            event_type=int(EventType.POST_CODE),
            content=mark,
        )
        return Fact(made, (Proof(pcr, 3),))

    shim = image(ImageKind.APPLICATION, 4, b"s")
    firmware, other = image(ImageKind.FIRMWARE, 0, b"f"), image(ImageKind.FIRMWARE, 0, b"g")

    changes = fact_changes(BootFacts(images=(firmware, shim)), BootFacts(images=(other,)))

    replaced, gone = changes
    assert "was replaced by" in replaced.words
    assert (replaced.before[0].pcr, replaced.after[0].pcr) == (0, 0)
    assert gone.words.endswith("is gone")
    assert (gone.before[0].pcr, gone.after) == (4, ())

    came, lost = fact_changes(BootFacts(images=(shim,)), BootFacts(images=(firmware,)))
    assert came.words.endswith("was added")
    assert lost.words.endswith("is gone")


def test_text_of_a_log_cannot_steer_a_terminal() -> None:
    before = BootFacts(firmware_version=Fact("1", (Proof(0, 3),)))
    after = replace(before, firmware_version=Fact("2\x1b[2Jx", (Proof(0, 3),)))

    (said,) = words(before, after)

    assert said.isprintable()
