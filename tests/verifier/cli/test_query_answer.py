"""What ``verifier query`` believes of an answer: the signature, and only about the device asked."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation.errors import AttestationError
from attestation.identity import DeviceId
from attestation.result import AttestationResult, TrustVector
from attestation.wire.ear import VerifierIdentity, encode_ear
from tests.simulators.command_line import runner
from verifier.cli.query import _believe, load_key_set
from verifier.errors import ServiceError
from verifier.keys.ring import KeyRing
from verifier.keys.setup import initialise
from verifier.sources import SystemEntropy

ASKED = DeviceId("sn-0001")


def now() -> datetime:
    """The moment itself: a result lasts for minutes only, and a suite may last longer."""
    return datetime.now(UTC)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    initialise(tmp_path / "keys", hostnames=(), at=now(), entropy=SystemEntropy())
    return KeyRing(tmp_path / "keys")


def answer(ring: KeyRing, device: str = "sn-0001", made: datetime | None = None) -> bytes:
    made = made or now()
    result = AttestationResult(
        device=DeviceId(device),
        vector=TrustVector(hardware=2),
        findings=(),
        steps=(),
        policy_id="p/1",
        at=made,
        evidence_digest=bytes(32),
    )
    claims = encode_ear(
        result,
        verifier=VerifierIdentity(developer="https://x.example", build="1"),
        issued_at=made,
        expires_at=made + timedelta(minutes=5),
    )
    return json.dumps({"status": "affirming", "ear": ring.sign_claims(claims)}).encode()


def keys(ring: KeyRing) -> dict[str, object]:
    return ring.key_set(now(), timedelta(minutes=5))


def test_genuine_answer_is_believed(ring: KeyRing) -> None:
    assert _believe(answer(ring), ASKED, keys(ring)).status.label == "affirming"


def test_genuine_result_of_another_device_is_refused(ring: KeyRing) -> None:
    with pytest.raises(AttestationError, match="speaks of sn-0002, asked was sn-0001"):
        _believe(answer(ring, "sn-0002"), ASKED, keys(ring))


def test_stale_result_is_refused(ring: KeyRing) -> None:
    with pytest.raises(AttestationError, match="result-expired"):
        _believe(answer(ring, made=now() - timedelta(minutes=10)), ASKED, keys(ring))


def test_forged_result_is_refused(ring: KeyRing) -> None:
    told = json.loads(answer(ring))
    head, body, signature = told["ear"].split(".")
    told["ear"] = f"{head}.{body}.{signature[::-1]}"

    with pytest.raises(AttestationError, match="result-"):
        _believe(json.dumps(told).encode(), ASKED, keys(ring))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"status": "affirming", "ear": 1}'])
def test_answer_without_a_signed_result_is_refused(ring: KeyRing, payload: bytes) -> None:
    with pytest.raises(ServiceError, match="result-malformed"):
        _believe(payload, ASKED, keys(ring))


def test_error_answer_is_told_by_its_code(ring: KeyRing) -> None:
    with pytest.raises(ServiceError, match="result-absent: none yet"):
        _believe(b'{"error": "result-absent", "detail": "none yet"}', ASKED, keys(ring))


def test_key_set_is_read_from_files_and_https_only(tmp_path: Path) -> None:
    wrong = tmp_path / "x"
    wrong.write_text("[]")

    for named in (str(wrong), "http://verifier.example/jwks", str(tmp_path / "absent")):
        with pytest.raises(ServiceError):
            load_key_set(named, None)


def test_broker_that_nobody_runs_is_told_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text('{"keys": []}')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = ("query", "sn-0001", "--mqtt", f"mqtts://{address}", "--jwks", jwks)

    code, _, errors = runner(monkeypatch, capfd)(*words, "--requester", "operator")

    assert code == 4
    assert errors.startswith(f"verifier: broker-unreachable: {address}: ")
