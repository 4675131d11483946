"""The journal of a manufacturing line: whole entries or none, in one chain, by one holder."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from attestation.refusals import RefusalCode
from tests.verifier.appraisal.courtroom import NOW
from verifier.errors import Unavailable
from verifier.keys.journal import FileJournal

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def filled(path: Path, count: int = 3) -> bytes:
    with FileJournal(path) as journal:
        for number in range(count):
            journal.append("made", {"serial": f"Ä-{number}"}, NOW + timedelta(seconds=number))
    return path.read_bytes()


def test_entries_come_back_as_they_were_written(path: Path) -> None:
    filled(path)

    with FileJournal(path) as journal:
        entries = list(journal.entries())
        assert entries[2] == (3, NOW + timedelta(seconds=2), "made", {"serial": "Ä-2"})
        assert journal.append("made", {}, NOW) == 4
        assert len(list(journal.entries())) == 4
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_entry_that_was_cut_short_never_was(path: Path, cut: int) -> None:
    whole = filled(path)
    path.write_bytes(whole[:-cut])

    with FileJournal(path) as journal:
        assert len(list(journal.entries())) == 2
        assert journal.append("made", {"serial": "again"}, NOW) == 3
    with FileJournal(path) as journal:
        assert list(journal.entries())[2][3] == {"serial": "again"}


def refused(path: Path) -> str:
    with pytest.raises(Unavailable) as caught:
        FileJournal(path)
    assert caught.value.code is RefusalCode.LINE_JOURNAL_BROKEN
    return caught.value.reason


def test_changed_entry_is_noticed(path: Path) -> None:
    path.write_bytes(filled(path).replace("Ä-1".encode(), "Ä-9".encode()))

    assert "entry 2: its digest" in refused(path)


def test_entry_taken_out_is_noticed(path: Path) -> None:
    rows = filled(path).splitlines(keepends=True)
    path.write_bytes(rows[0] + rows[2])

    assert "entry 2: it is missing" in refused(path)


def test_entry_with_its_digest_made_anew_is_noticed_by_the_next(path: Path) -> None:
    rows = filled(path).splitlines(keepends=True)
    forged = path.with_name("forged")
    with FileJournal(forged) as journal:
        journal.append("made", {"serial": "Ä-0"}, NOW)
        journal.append("made", {"serial": "other"}, NOW + timedelta(seconds=1))
    path.write_bytes(forged.read_bytes() + rows[2])

    assert "entry 3: it names another entry" in refused(path)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b"7\n", b'{"number": 4}\n', b"\xff\n"])
def test_rubbish_is_noticed(path: Path, line: bytes) -> None:
    path.write_bytes(filled(path) + line)

    assert "entry 4: it cannot be read" in refused(path)


def test_field_that_the_digest_does_not_cover_cannot_be_slipped_in(path: Path) -> None:
    rows = filled(path).splitlines()
    row = json.loads(rows[0])
    assert set(row) == {"number", "at_us", "kind", "entry", "previous", "sha256"}


def test_second_holder_waits_for_the_first(path: Path) -> None:
    first = FileJournal(path)
    order: list[str] = []

    def second() -> None:
        with FileJournal(path) as journal:
            order.append(f"second sees {len(list(journal.entries()))}")

    waiting = threading.Thread(target=second)
    waiting.start()
    time.sleep(0.1)
    first.append("made", {}, NOW)
    order.append("first done")
    first.close()
    waiting.join(10)

    assert order == ["first done", "second sees 1"]


def test_full_disk_leaves_what_was_there(path: Path) -> None:
    """A limit on the file's size stands for the disk: the kernel writes a part, then refuses."""
    filled(path)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with FileJournal(path) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, hard))
            with pytest.raises(Unavailable) as caught:
                journal.append("made", {"serial": "x" * 200}, NOW)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert caught.value.code is RefusalCode.STATE_UNWRITABLE
            assert journal.append("made", {"serial": "y"}, NOW) == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    with FileJournal(path) as journal:
        assert len(list(journal.entries())) == 4


def test_link_in_its_place_is_not_followed(path: Path) -> None:
    path.symlink_to("/etc/passwd")

    with pytest.raises(Unavailable):
        FileJournal(path)


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from verifier.keys.journal import FileJournal
with FileJournal(Path(sys.argv[1])) as journal:
    while True:
        number = journal.append("made", {"filler": "x" * 3000}, datetime.now(UTC))
        print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    acknowledged = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(7):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split("\n")
        acknowledged = max([acknowledged, *(int(one) for one in rest[:-1] if one)])
        with FileJournal(path) as journal:
            numbers = [entry[0] for entry in journal.entries()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) in {acknowledged, acknowledged + 1}
