from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.refusals import RefusalCode
from device_agent.errors import StateCorrupt, StateUnwritable
from device_agent.lifecycle import Credential, Fault, Verdict
from device_agent.ports import KeyRole
from device_agent.state.files import SavedState, StateFile, StateHeld, decode_state, encode_state

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
FULL = SavedState(
    phase="attesting",
    saved_at=AT,
    seq=7,
    credential=Credential(
        device_id="dev-a",
        certificate_chain_pem="-----BEGIN",
        obtained_at=AT,
        not_after=AT + timedelta(days=30),
        not_before=AT - timedelta(minutes=5),
        slot=KeyRole.LDEVID_2,
        key_since=AT - timedelta(days=9),
    ),
    candidate=Credential(
        device_id="dev-a",
        certificate_chain_pem="-----BEGIN NEW",
        obtained_at=AT + timedelta(days=1),
        not_after=AT + timedelta(days=31),
    ),
    retiring=KeyRole.LDEVID,
    slot=KeyRole.LDEVID_2,
    renew_at=AT + timedelta(days=20),
    rotate_at=AT + timedelta(days=2),
    renewal_fault=Fault(code=RefusalCode.STORE_UNAVAILABLE, reason="full", at=AT),
    verdict=Verdict(
        status="contraindicated",
        allowed=False,
        reasons=("reference-mismatch: PCR 4 \ud800",),
        result="a.b.c",
        at=AT,
    ),
    fault=Fault(code=RefusalCode.OVERLOADED, reason="later", at=AT),
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = StateFile(tmp_path / "state")
    store.claim()

    store.save(FULL)

    assert store.load() == FULL
    store.release()


def test_what_a_state_holds_comes_back_in_the_next_process() -> None:
    """All but what dies with a process: the driver under way, challenges, counters."""
    state = FULL.resumed()

    assert SavedState.of(state, AT, 7) == replace(FULL, phase="unenrolled")


OLD = {
    "phase": "attesting",
    "saved_at": "2025-12-24T10:00:00+00:00",
    "seq": 41,
    "credential": {
        "device_id": "dev-a",
        "certificate_chain_pem": "-----BEGIN",
        "obtained_at": "2025-12-01T10:00:00+00:00",
        "not_after": "2026-03-01T10:00:00+00:00",
    },
    "verdict": None,
    "fault": None,
}
"""As agents wrote it that knew one slot only."""


def signed(body: dict[str, object]) -> bytes:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"version": 1, "digest": digest, "state": body}).encode()


def test_a_file_of_an_older_agent_is_read_and_its_key_is_in_the_first_slot() -> None:
    seen = decode_state(signed(OLD), "state.json")

    assert seen.credential is not None
    assert seen.credential.slot is KeyRole.LDEVID
    assert seen.credential.not_before is None
    assert (seen.candidate, seen.retiring, seen.renew_at) == (None, None, None)
    assert seen.slot is KeyRole.LDEVID
    assert decode_state(encode_state(seen), "again") == seen


@pytest.mark.parametrize("key", ["slot", "retiring"])
@pytest.mark.parametrize("value", ["idevid", "iak", "third", 7])
def test_a_slot_that_holds_no_ldevid_is_corrupt(key: str, value: object) -> None:
    with pytest.raises(StateCorrupt):
        decode_state(signed({**OLD, key: value}), "state.json")


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    store = StateFile(tmp_path / "state")
    store.claim()
    store.save(FULL)
    store.release()

    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert StateFile(tmp_path).load() is None


def test_two_agents_do_not_share_a_directory(tmp_path: Path) -> None:
    first, second = StateFile(tmp_path), StateFile(tmp_path)
    first.claim()

    with pytest.raises(StateHeld, match="another device-agent holds"):
        second.claim()
    first.release()
    second.claim()
    second.release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"version": 1}',
        b'{"version": 2, "digest": "", "state": {}}',
        b'{"version": 1, "digest": "00", "state": {}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * (1024 * 1024 + 1),
    ],
)
def test_a_damaged_file_is_corrupt_and_can_be_set_aside(tmp_path: Path, content: bytes) -> None:
    store = StateFile(tmp_path)
    store.path.write_bytes(content)

    with pytest.raises(StateCorrupt):
        store.load()

    aside = store.set_aside()
    assert aside.read_bytes() == content
    assert store.load() is None


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_is_believed(position: int, bit: int) -> None:
    content = bytearray(encode_state(FULL))
    content[position % len(content)] ^= 1 << bit

    try:
        seen = decode_state(bytes(content), "state.json")
    except StateCorrupt:
        return
    assert seen == FULL  # a blank became another blank


def test_an_edited_file_is_noticed(tmp_path: Path) -> None:
    store = StateFile(tmp_path)
    document = json.loads(encode_state(FULL))
    document["state"]["verdict"]["allowed"] = True
    store.path.write_text(json.dumps(document))

    with pytest.raises(StateCorrupt, match="does not match its own digest"):
        store.load()


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from device_agent.state.files import StateFile
from tests.device_agent.test_state_files import FULL
store = StateFile(Path(sys.argv[1]))
store.claim()
saved = store.load()
seq = saved.seq if saved else 0
print("begun", flush=True)
while True:
    seq += 1
    store.save(replace(FULL, seq=seq, phase="x" * (seq * 977 % 20_000)))
    print(seq, flush=True)
"""


@pytest.mark.system
def test_a_kill_at_any_point_leaves_a_complete_state(tmp_path: Path) -> None:
    """Kill -9 at random moments; what was said to be saved is there, whole, each time."""
    dice = random.Random(20260301)  # noqa: S311 - moments, not secrets
    store = StateFile(tmp_path)
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(dice.uniform(0.005, 0.12))
        writer.kill()
        said = [int(line) for line in writer.stdout.read().split(b"\n") if line.strip().isdigit()]
        writer.stdout.close()
        writer.wait()

        seen = store.load()
        if said:
            assert seen is not None
            assert said[-1] <= seen.seq <= said[-1] + 1
        if seen is not None:
            assert seen == replace(FULL, seq=seen.seq, phase="x" * (seen.seq * 977 % 20_000))


APART = ("unshare", "--mount", *(("--user", "--map-root-user") if os.geteuid() else ()))
FULL_DISK = """
import sys
from dataclasses import replace
from pathlib import Path
from device_agent.errors import StateUnwritable
from device_agent.state.files import StateFile
from tests.device_agent.test_state_files import FULL
store = StateFile(Path(sys.argv[1]))
store.claim()
store.save(FULL)
ballast = Path(sys.argv[1]) / "ballast"
try:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
try:
    store.save(replace(FULL, seq=8, phase="y" * 50_000))
except StateUnwritable as error:
    print("refused", error.reason)
assert store.load() == FULL
assert not (Path(sys.argv[1]) / ".state.json.new").exists()
ballast.unlink()
store.save(replace(FULL, seq=9))
print("recovered", store.load().seq)
"""


@pytest.mark.system
def test_a_full_disk_is_reported_and_the_old_state_stays_whole(tmp_path: Path) -> None:
    """A real ENOSPC, on a small tmpfs in a mount namespace of its own."""
    command = f'mount -t tmpfs -o size=128k tmpfs "$1" && exec "{sys.executable}" -c "$0" "$1"'
    done = subprocess.run(
        [*APART, "sh", "-ec", command, FULL_DISK, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()[:80]}")

    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
    assert "No space left on device" in done.stdout
    assert "recovered 9" in done.stdout


def test_a_directory_that_cannot_be_made_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StateUnwritable, match="cannot be written"):
        StateFile(tmp_path / "file" / "state").claim()


def test_a_state_is_not_written_through_a_planted_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / ".state.json.new").symlink_to(target)

    with pytest.raises(StateUnwritable):
        StateFile(tmp_path).save(FULL)

    assert target.read_text() == "precious"
