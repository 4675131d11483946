from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.describe import describe_event
from attestation.errors import InputError
from attestation.logs.banks import bank_disagreements
from attestation.logs.event_types import EventType
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.uefi.device_path import device_path_text
from attestation.uefi.firmware import parse_firmware_blob, parse_handoff_tables, parse_image_load
from attestation.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, SHIM_LOCK
from attestation.uefi.load_option import parse_load_option
from attestation.uefi.loaders import measured_name, parse_loader_line
from attestation.uefi.partition_table import parse_partition_table
from attestation.uefi.signatures import parse_admission, parse_signature_lists
from attestation.uefi.subject import subject_of
from attestation.uefi.tagged import parse_tagged_events, walk_tagged_events
from attestation.uefi.variables import parse_boot_order, parse_variable
from tests.simulators.firmware_log import SHA1, SHA256, agile_event, header
from tests.simulators.uefi import (
    certificate_list,
    file_path,
    hash_list,
    image_load,
    load_option,
    tagged,
    variable,
)

READERS: tuple[Callable[[bytes], object], ...] = (
    parse_variable,
    parse_boot_order,
    parse_signature_lists,
    parse_load_option,
    parse_partition_table,
    parse_image_load,
    parse_firmware_blob,
    parse_handoff_tables,
    parse_tagged_events,
    walk_tagged_events,
    parse_loader_line,
    measured_name,
    device_path_text,
    subject_of,
    lambda data: parse_admission(IMAGE_SECURITY_DATABASE, data),
    lambda data: parse_admission(SHIM_LOCK, data),
    lambda data: parse_firmware_blob(data, named=True),
    lambda data: parse_handoff_tables(data, named=True),
)
GOOD = (
    variable("SecureBoot", b"\1"),
    hash_list(b"a" * 32) + certificate_list(b"0\3abc"),
    load_option("Linux", file_path("a.efi")),
    image_load(file_path("b.efi")),
    tagged(0x40010001, tagged(1, b"x")),
    b"grub_cmd: set a\0",
)
payloads = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda good, at, patch: good[: at % len(good)] + patch + good[at % len(good) :],
        st.sampled_from(GOOD),
        st.integers(0, 500),
        st.binary(max_size=4),
    ),
)


@given(payloads)
@example(b"x")
@example(b"")
@example(b"\0")
def test_any_bytes_give_a_value_or_one_of_our_errors(data: bytes) -> None:
    for read in READERS:
        with suppress(InputError):
            read(data)


names = st.sampled_from(
    ["SecureBoot", "PK", "db", "dbx", "BootOrder", "Boot0001", "Shim", "DeployedMode"]
)
vendors = st.sampled_from([GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, SHIM_LOCK])
contents = st.one_of(
    payloads,
    st.builds(variable, names, st.binary(max_size=80), vendors),
    st.sampled_from(
        [
            bytes(4),
            b"Calling EFI Application from Boot Option",
            b"Exit Boot Services Returned with Success",
            *GOOD,
        ]
    ),
)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    content = draw(contents)
    measured = draw(st.one_of(st.just(content), st.binary(max_size=8)))
    digests = {4: SHA1.digest(measured), 11: SHA256.digest(measured)}
    kept = draw(st.sampled_from([(4, 11), (4, 11), (4, 11), (11,)]))
    kind = draw(st.one_of(st.sampled_from([int(kind) for kind in EventType]), st.just(0x8401)))
    return agile_event(
        draw(st.integers(0, 23)),
        kind if kind != EventType.NO_ACTION else 0,
        content,
        {alg_id: digests[alg_id] for alg_id in kept},
    )


@settings(max_examples=300)
@given(st.lists(events(), max_size=12), st.sets(st.integers(0, 23)))
def test_any_stream_of_events_gives_facts(stream: list[bytes], proven: set[int]) -> None:
    log = replay(parse_firmware_log(header() + b"".join(stream)))
    for bank in (SHA1, SHA256):
        facts = derive_boot_facts(log, bank, proven)
        assert facts.covered <= proven
        assert facts.covered <= log.covered[bank]
        assert all(trouble.proof.pcr in facts.covered for trouble in facts.troubles)
        assert all(proof.pcr == 7 for fact in facts.authorities for proof in fact.proofs)
    assert derive_boot_facts(log, HashAlgorithm.SHA512, proven).covered == frozenset()
    bank_disagreements(log, (SHA256, SHA1))
    assert all("\n" not in describe_event(event) for event in log.events)
