"""Where a result of another verifier is found, and what is no result."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation.limits import MAX_PROOF_BYTES
from attestation.wire.enrolment_codec import decode_enrolment
from device_agent.collector import Sources
from device_agent.enrolment import build_enrolment
from device_agent.errors import SourceUnreadable
from device_agent.lifecycle import Verdict
from device_agent.result_kept import KeptResult
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from device_agent.state.files import SavedState, StateFile
from tests.device_agent.test_enrolment import CHALLENGE
from tests.simulators.soft_device import SoftManufacturer, SoftTpm

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN = "e30.eyJhIjoxfQ.c2ln"  # noqa: S105 - a result is no secret


def state(folder: Path, verdict: Verdict | None) -> Path:
    store = StateFile(folder / "state")
    store.claim()
    store.save(SavedState(phase="attesting", saved_at=AT, verdict=verdict))
    store.release()
    return folder / "state"


JUDGED = Verdict(status="affirming", allowed=True, reasons=(), result=TOKEN, at=AT)


@pytest.mark.parametrize("content", [TOKEN, f"{TOKEN}\n", json.dumps({"result": TOKEN})])
def test_result_is_read_from_a_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "result.jwt"
    file.write_text(content)

    assert KeptResult(file).read() == TOKEN


def test_pipe_that_nobody_writes_to_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SourceUnreadable, match="is no file"):
        KeptResult(tmp_path / "pipe").read()


def test_newest_result_of_another_agent_is_read_each_time(tmp_path: Path) -> None:
    kept = KeptResult(state(tmp_path, JUDGED))
    assert kept.read() == TOKEN

    state(tmp_path, replace(JUDGED, result="e30.e30.bmV3"))

    assert kept.read() == "e30.e30.bmV3"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no result",
        b"e30.e30.",
        b"{",
        b"[" * 100_000,
        b'{"status": "none"}',
        b'{"result": 1}',
        "ü.ü.ü".encode(),
        b"e30.e30." + b"A" * MAX_PROOF_BYTES,
    ],
)
def test_file_without_a_result_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "result.jwt"
    file.write_bytes(content)

    with pytest.raises(SourceUnreadable, match=r"enrolment\.result .* holds no attestation result"):
        KeptResult(file).read()


def test_place_without_a_result_is_told(tmp_path: Path) -> None:
    for place, words in (
        (tmp_path / "absent", "No such file"),
        (tmp_path, "no result yet"),
        (state(tmp_path / "unjudged", None), "no result yet"),
        (state(tmp_path, replace(JUDGED, result="junk")), "no attestation result"),
    ):
        with pytest.raises(SourceUnreadable, match=words):
            KeptResult(place).read()
    (tmp_path / "state" / "state.json").write_text("{}")
    with pytest.raises(SourceUnreadable, match="not a state document"):
        KeptResult(tmp_path / "state").read()


def test_request_shows_the_result_and_no_evidence(tmp_path: Path) -> None:
    file = tmp_path / "result.jwt"
    file.write_text(TOKEN)
    sources = Sources(
        tpm=SoftTpm(SoftManufacturer()),
        firmware_log=FirmwareLogFile(None),
        host=HostFacts(agent_version="test"),
        result=KeptResult(file),
    )

    request = decode_enrolment(build_enrolment(sources, CHALLENGE))

    assert (request.result, request.evidence) == (TOKEN, b"")
    assert request.nonce == CHALLENGE.nonce
