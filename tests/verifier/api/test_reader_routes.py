"""Results, history, decisions and AuthZEN for relying parties."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulators.verifier_site import Client, SiteDevice, VerifierSite
from verifier.api.public_routes import READY_S
from verifier.api.schemas import DeviceDocument


@pytest.fixture(scope="module")
def reader(site: VerifierSite) -> Iterator[Client]:
    client = site.client(token=site.token("reader", "reader-routes"))
    yield client
    client.close()


@pytest.fixture
def good(site: VerifierSite, device: SiteDevice) -> SiteDevice:
    """A device that is affirming."""
    device.attest()
    site.learn("golden", device)
    threading.Event().wait(0.6)
    assert device.attest().json["status"] == "affirming"
    return device


def asked(device_id: str, **changes: object) -> dict[str, Any]:
    return {
        "subject": {"type": "device", "id": device_id},
        "action": {"name": "connect"},
        "resource": {"type": "network", "id": "plant"},
        **changes,
    }


def evaluate(reader: Client, body: object) -> tuple[int, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = reader.post("/access/v1/evaluation", raw, "application/json")
    return answer.status, answer.json


def test_history_is_paged_newest_first(reader: Client, device: SiteDevice) -> None:
    for _ in range(4):
        device.attest()
    path = f"/results/v1/devices/{device.device_id}/history"

    first = reader.get(f"{path}?limit=3").json
    second = reader.get(f"{path}?limit=3&before={first['next']}").json

    assert [result["seq"] for result in first["results"]] == [5, 4, 3]
    assert [result["seq"] for result in second["results"]] == [2, 1]
    assert second["next"] == 0
    assert first["summary"]["status"] == first["results"][0]["status"]
    assert first["summary"]["complete"] is False
    assert second["summary"] is None


def test_devices_are_paged(reader: Client, device: SiteDevice) -> None:
    seen: list[str] = []
    after = ""
    while True:
        page = reader.get(f"/results/v1/devices?limit=1&after={after}").json
        seen += [item["device_id"] for item in page["devices"]]
        after = page["next"]
        if not after:
            break

    assert seen == sorted(set(seen))
    assert device.device_id in seen


def test_device_is_told_as_the_schema_says(reader: Client, device: SiteDevice) -> None:
    told = reader.get(f"/results/v1/devices/{device.device_id}").json

    assert set(told) == set(DeviceDocument.model_fields)


def test_unknown_device_is_a_404(reader: Client) -> None:
    for path in ("/results/v1/devices/nobody", "/decisions/v1/devices/nobody"):
        answer = reader.get(path)
        assert (answer.status, answer.json["code"]) == (404, "device-unknown")


@pytest.mark.parametrize("query", ["limit=0", "limit=9999", "limit=x"])
def test_wrong_page_size_is_a_400(reader: Client, query: str) -> None:
    answer = reader.get(f"/results/v1/devices?{query}")

    assert (answer.status, answer.json["code"]) == (400, "request-invalid")


@pytest.mark.parametrize("path", ["devices?after=%00", "devices/{id}/history?before=" + "9" * 30])
def test_page_that_no_store_understands_is_a_400(
    reader: Client, device: SiteDevice, path: str
) -> None:
    """SQLite has no such numbers, PostgreSQL no such text: neither is a fault of ours."""
    answer = reader.get("/results/v1/" + path.format(id=device.device_id))

    assert (answer.status, answer.json["code"]) == (400, "request-invalid")


def test_decision_follows_the_evidence(reader: Client, good: SiteDevice) -> None:
    path = f"/decisions/v1/devices/{good.device_id}"
    before = reader.get(path).json
    good.tamper()
    good.attest()

    after = reader.get(path).json

    assert (before["allow"], before["reasons"]) == (True, [])
    assert set(before["document"]) >= {
        "rot",
        "identifiers",
        "affiliations",
        "posture",
        "capabilities",
    }
    assert after["decision"] == "deny"
    assert any(reason.startswith("log-replay-mismatch") for reason in after["reasons"])


def test_authzen_permits_an_affirming_device_and_denies_the_rest(
    reader: Client, good: SiteDevice
) -> None:
    permitted = evaluate(reader, asked(good.device_id))
    unknown = evaluate(reader, asked("nobody"))
    other = evaluate(reader, asked("x", subject={"type": "user", "id": "alice"}))

    assert permitted[0] == 200
    assert permitted[1]["decision"] is True
    assert permitted[1]["context"]["attestation"]["status"] == "affirming"
    assert (unknown[0], unknown[1]["decision"]) == (200, False)
    assert (other[0], other[1]["decision"]) == (200, False)


def test_authzen_does_not_believe_what_a_subject_says_of_itself(
    reader: Client, device: SiteDevice
) -> None:
    device.tamper()
    device.attest()
    lie = {"type": "device", "id": device.device_id, "properties": {"status": "affirming"}}

    assert evaluate(reader, asked("", subject=lie))[1]["decision"] is False


@pytest.mark.parametrize(
    "body",
    [
        {"action": {"name": "x"}, "resource": {"type": "a", "id": "b"}},
        asked("x", subject={"type": "device"}),
        asked("x", subject="device"),
        asked("x", action={"name": 7}),
        asked("x", resource={"id": "b"}),
        b"",
        b"{",
    ],
)
def test_authzen_request_that_is_not_one_is_a_400(reader: Client, body: object) -> None:
    assert evaluate(reader, body)[0] == 400


def test_authzen_takes_json_only(reader: Client) -> None:
    raw = json.dumps(asked("x")).encode()

    assert reader.post("/access/v1/evaluation", raw, "text/plain").status == 400


def test_openapi_describes_problems_and_credentials(site: VerifierSite) -> None:
    document = site.client().get("/openapi.json").json

    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"], path
            assert "application/problem+json" in operation["responses"]["429"]["content"]
            assert "x-access" in operation
    assert "ProblemDocument" in document["components"]["schemas"]


def test_ready_says_what_is_missing_in_codes_only(
    site: VerifierSite, capfd: pytest.CaptureFixture[str]
) -> None:
    """Anyone may ask: which file or host is wrong is for whoever may read the log."""
    assert site.client().get("/health/ready").json == {"ready": True, "reasons": []}
    ring = site.folder / "keys" / "keyring.json"
    hidden = ring.with_name("hidden")
    ring.rename(hidden)
    time.sleep(READY_S)
    try:
        answer = site.client().get("/health/ready")
    finally:
        hidden.rename(ring)

    assert answer.status == 503
    assert answer.json == {"ready": False, "reasons": ["settings-invalid"]}
    assert str(ring) in "".join(capfd.readouterr())
    time.sleep(READY_S)
    assert site.client().get("/health/ready").status == 200


def test_asking_for_readiness_again_and_again_costs_nothing(site: VerifierSite) -> None:
    """The route is open to all and not rate limited, so it must not work for each who asks."""
    client = site.client()
    client.get("/health/ready")
    ring = site.folder / "keys" / "keyring.json"
    hidden = ring.with_name("hidden")
    ring.rename(hidden)
    try:
        seen = {client.get("/health/ready").status for _ in range(3)}
    finally:
        hidden.rename(ring)

    assert seen == {200}
