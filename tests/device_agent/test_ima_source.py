"""The kernel's list, read from where the verifier has it."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.evidence import ImaPart
from device_agent.errors import SourceUnreadable
from device_agent.sources.ima_list import ImaListFile
from tests.simulators.ima_kernel import legacy_entry, ng_entry

ENTRIES = [
    legacy_entry(b"/bin/%d" % n, bytes([n]) * 20)
    if n % 3 == 0
    else ng_entry(b"/usr/lib/" + b"x" * n, bytes([n]) * 32)
    for n in range(12)
]


class Kernel:
    """A list as a file, with or without the count beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "binary_runtime_measurements"
        self.count = folder / "runtime_measurements_count"

    def hold(self, entries: list[bytes], *, cut: bytes = b"", counted: bool = False) -> None:
        self.path.write_bytes(b"".join(entries) + cut)
        if counted:
            self.count.write_text(f"{len(entries)}\n")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def part(offset: int, entries: list[bytes]) -> ImaPart:
    return ImaPart(offset=offset, content=b"".join(entries))


def test_kernel_without_list_sends_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert ImaListFile(None).read_from(0) is None
    assert ImaListFile(tmp_path / "absent").read_from(0) is None
    assert ImaListFile(tmp_path / "empty").read_from(3) is None


@pytest.mark.parametrize("counted", [True, False])
def test_list_grows_and_only_what_is_new_is_read(kernel: Kernel, *, counted: bool) -> None:
    source = ImaListFile(kernel.path)
    sent = 0
    for size in (1, 1, 4, 5, 5, 12):
        kernel.hold(ENTRIES[:size], counted=counted)

        assert source.read_from(sent) == part(sent, ENTRIES[sent:size])

        sent = size


def test_verifier_may_lag_behind_what_was_sent_or_start_anew(kernel: Kernel) -> None:
    """Entries that ran ahead of the quote are sent again, and a lost state asks for all."""
    source = ImaListFile(kernel.path)
    kernel.hold(ENTRIES)

    for start in (0, 3, 3, 7, 5, 12, 11, 0, 4):
        assert source.read_from(start) == part(start, ENTRIES[start:])


@given(st.lists(st.integers(0, 12), max_size=8))
def test_whatever_is_asked_in_whatever_order_is_answered(starts: list[int]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(ENTRIES))
        file.flush()
        source = ImaListFile(Path(file.name))

        for start in starts:
            assert source.read_from(start) == part(start, ENTRIES[start:])


def test_shorter_list_is_another_boots_and_read_whole(kernel: Kernel) -> None:
    source = ImaListFile(kernel.path)
    kernel.hold(ENTRIES)
    source.read_from(10)
    kernel.hold(ENTRIES[:2])

    assert source.read_from(10) == part(0, ENTRIES[:2])
    assert source.read_from(2) == part(2, [])


def test_another_list_of_that_length_is_read_whole(kernel: Kernel) -> None:
    """What was sent before is recognised by the bytes that precede the mark."""
    source = ImaListFile(kernel.path)
    kernel.hold(ENTRIES)
    source.read_from(4)
    others = [ng_entry(b"/other", bytes([n]) * 32) for n in range(40)]
    kernel.hold(others)

    assert source.read_from(4) == part(0, others)


@pytest.mark.parametrize("bank", list(HashAlgorithm))
def test_list_of_any_bank_is_cut_between_its_entries(kernel: Kernel, bank: HashAlgorithm) -> None:
    entries = [ng_entry(b"/bin/%d" % n, bytes(32), template_hash=bank) for n in range(6)]
    source = ImaListFile(kernel.path)
    kernel.hold(entries[:5], cut=entries[5][:-1])

    assert source.read_from(2) == part(2, entries[2:5])
    assert source.read_from(4) == part(4, entries[4:5])


def test_entry_that_is_not_whole_yet_waits(kernel: Kernel) -> None:
    for size in range(1, len(ENTRIES[4])):
        kernel.hold(ENTRIES[:4], cut=ENTRIES[4][:size])

        assert ImaListFile(kernel.path).read_from(2) == part(2, ENTRIES[2:4])


@pytest.mark.parametrize(
    "noise",
    [b"no list at all, but text of some length", struct.pack("<I20sI", 10, b"", 2**31), b"x"],
)
def test_what_is_no_list_is_not_sent(kernel: Kernel, noise: bytes) -> None:
    kernel.hold([], cut=noise)

    with pytest.raises(SourceUnreadable, match="not a binary IMA") as caught:
        ImaListFile(kernel.path).read_from(0)
    assert caught.value.code == "source-unreadable"


def test_more_than_one_evidence_takes_is_said(kernel: Kernel) -> None:
    size = len(b"".join(ENTRIES))
    kernel.hold(ENTRIES)

    assert ImaListFile(kernel.path, limit_bytes=size).read_from(0) == part(0, ENTRIES)
    with pytest.raises(SourceUnreadable) as caught:
        ImaListFile(kernel.path, limit_bytes=size - 1).read_from(0)
    assert caught.value.code == "ima-list-too-long"
    for word in (f"holds {size} bytes", f"at most {size - 1}", "boot again", "IMA policy"):
        assert word in caught.value.reason
    # What the verifier has does not count.
    assert ImaListFile(kernel.path, limit_bytes=size - 1).read_from(1) == part(1, ENTRIES[1:])


def test_endless_file_is_refused() -> None:
    with pytest.raises(SourceUnreadable, match="larger than"):
        ImaListFile(Path("/dev/zero")).read_from(0)


def test_list_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"set evidence\.ima_list") as caught:
        ImaListFile(tmp_path).read_from(0)
    assert caught.value.code == "source-unreadable"


def test_count_of_the_kernel_spares_the_reading(kernel: Kernel) -> None:
    source = ImaListFile(kernel.path)
    kernel.hold(ENTRIES, counted=True)
    source.read_from(0)
    kernel.path.unlink()
    kernel.path.mkdir()  # reading it would fail

    assert source.read_from(12) == part(12, [])
