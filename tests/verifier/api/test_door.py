"""The outermost layer: caps, limits, headers and problems."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.limits import MAX_ENROLMENT_BYTES
from attestation.wire.media_types import ENROLMENT, EVIDENCE
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.api import client_certificate
from verifier.api.client_certificate import HEAD_BYTES
from verifier.api.door import AT_ONCE
from verifier.api.evidence import EVIDENCE_PATH
from verifier.api.limits import BIG_BYTES, BigBodies, NoPlace

CAP = MAX_ENROLMENT_BYTES


def raw_connection(site: VerifierSite, device: SiteDevice | None = None) -> ssl.SSLSocket:
    context = (
        site.context(device.chain_pem, next(iter([device.tpm.keys["ldevid"].private])))
        if device
        else site.context()
    )
    plain = socket.create_connection(("127.0.0.1", site.port), timeout=15)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def read_head(connection: ssl.SSLSocket, seen: bytes = b"") -> tuple[int, bytes]:
    while b"\r\n\r\n" not in seen or b"}" not in seen:
        got = connection.recv(65_536)
        if not got:
            break
        seen += got
    return int(seen.split(b" ", 2)[1]), seen


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def test_announced_oversize_body_is_refused_before_it_is_sent(
    site: VerifierSite, device: SiteDevice
) -> None:
    with raw_connection(site, device) as connection:
        connection.sendall(
            head("/attest/v1/evidence", f"Content-Type: {EVIDENCE}", "Content-Length: 3000000000")
        )
        status, seen = read_head(connection)
        rest = connection.recv(1)

    assert status == 413
    assert b'"code": "too-large"' in seen
    assert b"connection: close" in seen
    assert rest == b""  # closed: what follows on it would be the body's rest, not a request


@pytest.mark.parametrize("path", ["/attest/v1/evidence", "/enrol/v1/requests"])
def test_chunked_body_is_refused_as_soon_as_it_passes_the_cap(
    site: VerifierSite, device: SiteDevice, path: str
) -> None:
    kind = EVIDENCE if "evidence" in path else ENROLMENT
    chunk = b"%x\r\n" % 65_536 + bytes(65_536) + b"\r\n"
    sent = 0
    with raw_connection(site, device) as connection:
        connection.sendall(head(path, f"Content-Type: {kind}", "Transfer-Encoding: chunked"))
        seen = b""
        while not seen and sent < 4 * CAP:
            connection.settimeout(15)
            connection.sendall(chunk)
            sent += 65_536
            connection.settimeout(0.001)
            with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                seen = connection.recv(65_536)
        connection.settimeout(15)
        status, seen = read_head(connection, seen)
    assert status == 413
    assert b"too-large" in seen
    assert sent < 2 * CAP


def test_client_has_one_big_body_under_way_at_a_time(
    site: VerifierSite, device: SiteDevice
) -> None:
    chunk = b"%x\r\n" % 65_536 + bytes(65_536) + b"\r\n"
    start = head(EVIDENCE_PATH, f"Content-Type: {EVIDENCE}", "Transfer-Encoding: chunked")
    with raw_connection(site, device) as first, raw_connection(site, device) as second:
        for connection in (first, second):
            connection.settimeout(15)
            connection.sendall(start)
            for _ in range(BIG_BYTES // 65_536):
                connection.sendall(chunk)
        first.sendall(chunk)
        while not site.running.app._big._holders:  # type: ignore[attr-defined]
            threading.Event().wait(0.01)
        second.sendall(chunk)
        status, seen = read_head(second)
        first.sendall(b"0\r\n\r\n")
        judged, _ = read_head(first)

    assert (status, judged) == (503, 400)
    assert b"overloaded" in seen
    assert b"retry-after" in seen
    with raw_connection(site, device) as third:
        third.settimeout(15)
        third.sendall(start)
        for _ in range(BIG_BYTES // 65_536 + 1):
            third.sendall(chunk)
        third.sendall(b"0\r\n\r\n")
        assert read_head(third)[0] == 400


def test_big_bodies_of_all_clients_have_so_many_places() -> None:
    big = BigBodies(places=2)

    with big.place(b"a") as first, big.place(b"b") as second, big.place(b"c") as third:
        first()
        second()
        with pytest.raises(NoPlace):
            third()
    with big.place(b"c") as third:
        third()


def test_body_that_keeps_arriving_gets_more_time(site: VerifierSite, device: SiteDevice) -> None:
    """``body_seconds`` is 1.5 here; two MiB that have arrived buy two more."""
    with raw_connection(site, device) as connection:
        connection.settimeout(15)
        connection.sendall(
            head(EVIDENCE_PATH, f"Content-Type: {EVIDENCE}", f"Content-Length: {2 * 2**20 + 1}")
        )
        connection.sendall(bytes(2 * 2**20))
        time.sleep(2)
        connection.sendall(b"x")
        status, seen = read_head(connection)

    assert status == 400
    assert b"evidence-malformed" in seen


def test_body_that_does_not_arrive_is_given_up(site: VerifierSite, device: SiteDevice) -> None:
    started = time.monotonic()
    with raw_connection(site, device) as connection:
        connection.sendall(
            head("/attest/v1/evidence", f"Content-Type: {EVIDENCE}", "Content-Length: 100")
        )
        status, seen = read_head(connection)

    assert status == 400
    assert b"did not arrive within" in seen
    assert time.monotonic() - started < 8


def test_head_that_never_ends_is_not_kept_in_memory(site: VerifierSite) -> None:
    """A client without any credential sends one header line for ever."""
    sent = 0
    with raw_connection(site) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: ")
        connection.settimeout(10)
        with contextlib.suppress(OSError):  # reset in the middle of a write: what is wanted
            while sent < 16 * CAP:
                connection.sendall(b"a" * 65_536)
                sent += 65_536

    assert sent < CAP


def test_trailer_that_never_ends_is_not_kept_in_memory(
    site: VerifierSite, device: SiteDevice
) -> None:
    sent = 0
    with raw_connection(site, device) as connection:
        connection.sendall(
            head("/attest/v1/evidence", f"Content-Type: {EVIDENCE}", "Transfer-Encoding: chunked")
            + b"1\r\nx\r\n0\r\nX-Long: "
        )
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            while sent < 16 * CAP:
                connection.sendall(b"a" * 65_536)
                sent += 65_536

    assert sent < CAP


def test_head_that_is_too_long_is_answered_before_the_end(site: VerifierSite) -> None:
    with raw_connection(site) as connection:
        connection.sendall(head("/health/live", "X-Long: ")[:-4])
        time.sleep(0.2)  # what comes with a request's first bytes is not counted
        connection.sendall(b"a" * 2 * HEAD_BYTES)

        assert connection.recv(4096).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("begun", [b"", b"GET /health/live HTTP/1.1\r\nX-Slow: a"])
def test_connection_that_asks_nothing_is_not_held(
    site: VerifierSite, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Slowloris: thousands of connections that never finish a request keep everybody else out."""
    monkeypatch.setattr(client_certificate, "HEAD_SECONDS", 0.5)
    with raw_connection(site) as connection:
        connection.sendall(begun)
        connection.settimeout(10)
        started = time.monotonic()
        seen = connection.recv(4096)

    assert seen.startswith(b"HTTP/1.1 408 ") if begun else seen == b""
    assert time.monotonic() - started < 5


def test_connection_trickling_into_an_answered_request_is_not_held(
    site: VerifierSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_certificate, "HEAD_SECONDS", 0.5)
    with raw_connection(site) as connection:
        connection.sendall(head("/access/v1/evaluation", "Content-Length: 60000") + b"{")
        status, _ = read_head(connection)
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 8:
                connection.sendall(b" ")
                time.sleep(0.1)

    assert status in (400, 401)
    assert time.monotonic() - started < 5


def test_kept_alive_connection_outlives_the_time_for_a_head(
    site: VerifierSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_certificate, "HEAD_SECONDS", 0.3)
    client = site.client()

    for _ in range(2):
        assert client.get("/health/live").status == 200
        time.sleep(0.8)
    assert client.get("/health/live").status == 200


@pytest.mark.parametrize("path", ["/access/v1/evaluation", "/health/live", "/nowhere"])
def test_large_body_for_a_route_that_takes_none_is_refused_unread(
    site: VerifierSite, path: str
) -> None:
    """Megabytes are for devices: a stranger's are not kept while it is found out who it is."""
    with raw_connection(site) as connection:
        connection.sendall(head(path, f"Content-Length: {CAP - 1}"))
        status, seen = read_head(connection)

    assert status == 413
    assert b"too-large" in seen


@pytest.mark.parametrize("path", ["/attest/v1/evidence", "/enrol/v1/requests"])
def test_large_body_of_a_client_without_certificate_is_refused_unread(
    site: VerifierSite, path: str
) -> None:
    with raw_connection(site) as connection:
        connection.sendall(head(path, f"Content-Length: {CAP - 1}"))
        status, seen = read_head(connection)

    assert status == 401
    assert b"client-certificate-required" in seen


def test_one_client_holds_few_bodies_at_once(site: VerifierSite, device: SiteDevice) -> None:
    """Each unfinished body is memory; a certificate is no licence to open hundreds."""
    with contextlib.ExitStack() as stack:
        begun = [stack.enter_context(raw_connection(site, device)) for _ in range(AT_ONCE)]
        for connection in begun:
            connection.sendall(
                head("/attest/v1/evidence", f"Content-Type: {EVIDENCE}", "Content-Length: 9")
            )
        time.sleep(0.3)
        one_more = device.client.post("/attest/v1/evidence", b"x", EVIDENCE)
        for connection in begun:
            read_head(connection)
    afterwards = device.client.post("/attest/v1/evidence", b"x", EVIDENCE)

    assert (one_more.status, one_more.json["code"]) == (429, "rate-limited")
    assert afterwards.status == 400


@pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/attest/v1/evidence"])
def test_every_answer_bears_the_security_headers_and_an_id(site: VerifierSite, path: str) -> None:
    answer = site.client().get(path)

    for name in (
        "content-security-policy",
        "strict-transport-security",
        "x-content-type-options",
        "referrer-policy",
        "cache-control",
        "x-request-id",
    ):
        assert name in answer.headers
    assert "server" not in answer.headers


def test_request_id_of_the_client_is_echoed(site: VerifierSite) -> None:
    answer = site.client().get("/nowhere", **{"X-Request-ID": "abc-123"})

    assert answer.headers["x-request-id"] == "abc-123"
    assert answer.json["instance"] == "urn:request:abc-123"


def test_request_id_that_could_break_a_log_is_replaced(site: VerifierSite) -> None:
    answer = site.client().get("/nowhere", **{"X-Request-ID": "a b;c"})

    assert answer.headers["x-request-id"] != "a b;c"


def test_unknown_path_and_method_are_problems(site: VerifierSite) -> None:
    missing = site.client().get("/nowhere")
    wrong = site.client().request("DELETE", "/health/live")

    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
    assert (wrong.status, wrong.headers["content-type"]) == (405, "application/problem+json")


def test_problem_documents_point_at_their_explanation(site: VerifierSite) -> None:
    problem = site.client().post("/attest/v1/evidence").json

    assert problem["type"] == "/problems/client-certificate-required"
    explained = site.client().get(problem["type"])
    assert explained.json["explained_in"] == "docs/refusals.md#client-certificate-required"


def test_fault_of_our_own_is_a_500_without_our_inside(
    site: VerifierSite, device: SiteDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.ask()

    class Broken:
        def current(self) -> None:
            raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(site.running.services.attest, "_nonces", Broken())
    before = site.running.store.newest_result(site.running.store.devices()[0].device)
    lean = device.submit(device.evidence({"nonce": "A" * 75, "pcr_selection": "sha256:0"}))
    monkeypatch.setattr(site.running.services.decisions, "_store", None)
    token = site.token("reader", "fault-finder")
    routed = site.client(token=token).get(f"/decisions/v1/devices/{device.device_id}")

    for answer in (lean, routed):
        assert answer.status == 500
        assert answer.json["code"] == "internal-error"
        assert b"secret inside" not in answer.body
        assert answer.headers["x-request-id"] in answer.json["detail"]
    assert site.running.store.newest_result(site.running.store.devices()[0].device) == before


@pytest.fixture(scope="module")
def strict_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder: Path = tmp_path_factory.mktemp("strict")
    extra = "[limits]\nrequests_per_s = 1.0\nburst = 12\n"
    with VerifierSite(folder, SoftManufacturer(), extra=extra) as running:
        yield running


def test_client_above_its_rate_is_told_when_to_come_back(strict_site: VerifierSite) -> None:
    device = strict_site.device()
    assert device.enrol().status == 201
    answers = [device.client.post("/attest/v1/challenges") for _ in range(14)]

    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert refused[0].json["code"] == "rate-limited"
    assert int(refused[0].headers["retry-after"]) >= 1
    assert json.loads(refused[0].body)["status"] == 429


def test_rate_of_one_client_does_not_touch_another(strict_site: VerifierSite) -> None:
    loud, quiet = strict_site.device("SN-LOUD"), strict_site.device("SN-QUIET")
    assert loud.enrol().status == 201
    assert quiet.enrol().status == 201
    while loud.client.post("/attest/v1/challenges").status != 429:
        pass

    assert quiet.client.post("/attest/v1/challenges").status == 200
