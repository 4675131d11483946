"""The HTTPS client against real TLS sockets, kind and hostile."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.errors import (
    SettingsInvalid,
    VerifierRefused,
    VerifierUnreachable,
    VerifierUntrusted,
)
from device_agent.ports import KeyRole
from device_agent.transport.answers import VerifierAskedToWait, printable
from device_agent.transport.client import HttpsVerifier
from device_agent.transport.connection import SLOWEST_BYTES_PER_S
from tests.simulators.verifier_simulator import Authority, VerifierSimulator, https_verifier


@pytest.fixture
def simulator() -> VerifierSimulator:
    return VerifierSimulator()


@pytest.fixture
def ca_file(simulator: VerifierSimulator, tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    file.write_bytes(simulator.authority.pem)
    return str(file)


def no_key(_context: ssl.SSLContext, _role: KeyRole) -> None:
    """Speak without a client certificate."""


OPENED: list[HttpsVerifier] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def client(url: str, ca_file: str, *, read_timeout_s: float = 5, **more: object) -> HttpsVerifier:
    OPENED.append(_client(url, ca_file, read_timeout_s, more.get("dress", no_key)))
    return OPENED[-1]


def _client(url: str, ca_file: str, read_timeout_s: float, dress: object) -> HttpsVerifier:
    return HttpsVerifier(
        url=url,
        ca_file=ca_file,
        dress=dress,  # type: ignore[arg-type]
        connect_timeout_s=2,
        read_timeout_s=read_timeout_s,
    )


def dressed(authority: Authority, folder: Path, life: timedelta) -> Callable[..., None]:
    """A client certificate with a key in a file, as a stand-in for the TPM."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue("dev-a", key.public_key(), life)
    file = folder / "client.pem"
    file.write_bytes(
        leaf.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return lambda context, _role: context.load_cert_chain(file)


def test_a_challenge_is_read(simulator: VerifierSimulator, tmp_path: Path, ca_file: str) -> None:
    with https_verifier(simulator, tmp_path) as url:
        verifier = client(url, ca_file)
        reply = verifier.challenge()

    assert len(reply.nonce) == 56
    assert reply.selections[0].describe() == "sha256:0,1,2,7"
    assert reply.expires_in_s == 60


def test_one_connection_serves_many_requests(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    dressings: list[KeyRole] = []
    with https_verifier(simulator, tmp_path) as url:
        verifier = client(url, ca_file, dress=lambda _context, role: dressings.append(role))
        for _ in range(5):
            verifier.challenge()
        first = verifier._connections[KeyRole.LDEVID]._open
        verifier.challenge()
        assert verifier._connections[KeyRole.LDEVID]._open is first
        verifier.enrolment_challenge()

    assert dressings == [KeyRole.LDEVID, KeyRole.IDEVID]


def test_a_problem_document_becomes_a_refusal(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    simulator.fail(
        "challenge", VerifierRefused("device-revoked", "by hand\x1b[2J", http_status=403)
    )
    with https_verifier(simulator, tmp_path) as url:
        verifier = client(url, ca_file)
        with pytest.raises(VerifierRefused) as caught:
            verifier.challenge()

    assert caught.value.code == "device-revoked"
    assert caught.value.reason == "by hand?[2J"
    assert caught.value.http_status == 403


def test_a_retry_after_is_passed_on(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    simulator.fail("challenge", VerifierRefused("rate-limited", "slow", http_status=429))
    with https_verifier(simulator, tmp_path) as url:
        verifier = client(url, ca_file)
        with pytest.raises(VerifierAskedToWait) as caught:
            verifier.challenge()

    assert caught.value.retry_after_s == 7


def test_a_server_of_another_authority_is_not_trusted(
    simulator: VerifierSimulator, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("Owner CA").pem)
    with https_verifier(simulator, tmp_path) as url, pytest.raises(VerifierUntrusted):
        client(url, str(other)).challenge()

    assert simulator.calls == []


def test_a_server_of_another_name_is_not_trusted(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    with (
        https_verifier(simulator, tmp_path, host="elsewhere") as url,
        pytest.raises(VerifierUntrusted, match="ostname"),
    ):
        client(url, ca_file).challenge()


def test_a_client_certificate_is_shown(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    owner = Authority()
    dress = dressed(owner, tmp_path, timedelta(days=1))
    with https_verifier(simulator, tmp_path, client_anchors=owner.pem) as url:
        verifier = client(url, ca_file, dress=dress)
        assert verifier.challenge().expires_in_s == 60


@pytest.mark.parametrize("why", ["none", "foreign", "expired"])
def test_a_client_certificate_refused_in_the_handshake_is_a_refusal(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str, why: str
) -> None:
    owner = Authority()
    dress = {
        "none": lambda: no_key,
        "foreign": lambda: dressed(Authority("other"), tmp_path, timedelta(days=1)),
        "expired": lambda: dressed(owner, tmp_path, timedelta(minutes=-1)),
    }[why]()
    with https_verifier(simulator, tmp_path, client_anchors=owner.pem) as url:
        verifier = client(url, ca_file, dress=dress)
        with pytest.raises(VerifierRefused) as caught:
            verifier.challenge()

    assert caught.value.code == "client-certificate-wrong"


def test_nobody_there_is_unreachable(ca_file: str) -> None:
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        url = f"https://localhost:{idle.getsockname()[1]}"
        with pytest.raises(VerifierUnreachable, match="cannot be reached"):
            client(url, ca_file).challenge()


def test_a_missing_ca_file_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"verifier\.ca_file"):
        client("https://localhost:1", str(tmp_path / "absent")).challenge()


def test_the_probe_tells_the_verifiers_clock(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    with https_verifier(simulator, tmp_path) as url:
        theirs, tls = client(url, ca_file).probe(None)

    assert theirs is not None
    assert theirs.tzinfo is not None
    assert tls == "TLSv1.3"


# --- hostile servers ---------------------------------------------------------------------------
Script = Callable[[ssl.SSLSocket], None]


def _read_request(tls: ssl.SSLSocket) -> None:
    """Read head and body, for what is unread at the end resets the connection.

    Of a large body only the beginning is read: the script may want to see how it comes.
    """
    seen = b""
    while b"\r\n\r\n" not in seen:
        more = tls.recv(65536)
        if not more:
            return
        seen += more
    head, _, body = seen.partition(b"\r\n\r\n")
    told = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    left = min(int(told.group(1)) if told else 0, 65536) - len(body)
    while left > 0 and (more := tls.recv(left)):
        left -= len(more)


@contextmanager
def tls_server(simulator: VerifierSimulator, folder: Path, script: Script) -> Iterator[str]:
    """Accept connections, shake hands, read one request, then do as the script says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*simulator.authority.server_files(folder))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as tls:
                    tls.settimeout(5)
                    _read_request(tls)
                    script(tls)
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def http(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


GOOD = http(b'{"nonce": "AAAA", "pcr_selection": "sha256:0", "expires_in_s": 5}')


def drip(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        tls.sendall(b" ")
        time.sleep(0.05)


def drip_headers(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        tls.sendall(f"X-{number}: 1\r\n".encode())
        time.sleep(0.05)


def flood(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000000\r\n\r\n")
    while True:
        tls.sendall(bytes(65536))


@pytest.mark.parametrize("script", [drip, drip_headers, lambda _tls: time.sleep(3)])
def test_a_server_that_stalls_is_left_at_the_deadline(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str, script: Script
) -> None:
    with tls_server(simulator, tmp_path, script) as url:
        begun = time.monotonic()
        with pytest.raises(VerifierUnreachable):
            client(url, ca_file, read_timeout_s=0.4).challenge()
        took_s = time.monotonic() - begun

    assert took_s < 1.5


def test_a_flood_is_cut_off(simulator: VerifierSimulator, tmp_path: Path, ca_file: str) -> None:
    with (
        tls_server(simulator, tmp_path, flood) as url,
        pytest.raises(VerifierUnreachable, match="more than 1048576 bytes"),
    ):
        client(url, ca_file).challenge()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        http(b'{"nonce"', length=500),
        http(b"<html>a proxy</html>"),
        http(b"[" * 200_000),
        http(b"[]"),
        http(b"{}"),
        http(b'{"nonce": 3, "pcr_selection": "sha256:0", "expires_in_s": 5}'),
        http(b'{"nonce": "AA*A", "pcr_selection": "sha256:0", "expires_in_s": 5}'),
        http(b'{"nonce": "", "pcr_selection": "sha256:0", "expires_in_s": 5}'),
        http(b'{"nonce": "AAAA", "pcr_selection": "md5:0", "expires_in_s": 5}'),
        http(b'{"nonce": "AAAA", "pcr_selection": "sha256:99", "expires_in_s": 5}'),
        http(b'{"nonce": "AAAA", "pcr_selection": "sha256:0", "expires_in_s": NaN}'),
        http(b'{"nonce": "AAAA", "pcr_selection": "sha256:0", "expires_in_s": true}'),
        http(b"bad gateway", status="502 Bad Gateway"),
    ],
)
def test_an_answer_that_is_no_verifiers_is_unreachable(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str, answer: bytes
) -> None:
    with (
        tls_server(simulator, tmp_path, lambda tls: tls.sendall(answer)) as url,
        pytest.raises(VerifierUnreachable),
    ):
        client(url, ca_file).challenge()


@pytest.mark.parametrize("chain", ["\\ud800", "\u00fc", "A" * 600_000])
def test_a_certificate_that_cannot_be_kept_is_no_verifiers_answer(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str, chain: str
) -> None:
    """It would end the daemon, or make its own state file unreadable to it."""
    answer = f"""{{"device_id": "sn-1", "not_after": "2030-01-01T00:00:00Z",
        "certificate_chain_pem": "{chain}", "result": ""}}"""

    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(http(answer.encode()))
        tls.recv(65536)  # the request's body, so that closing does not cut our answer off

    with (
        tls_server(simulator, tmp_path, script) as url,
        pytest.raises(VerifierUnreachable, match="certificate_chain_pem"),
    ):
        client(url, ca_file).enrol(b"request")


def test_a_refusal_without_words_is_a_refusal(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    answer = http(b"no", status="404 Not Found")
    with (
        tls_server(simulator, tmp_path, lambda tls: tls.sendall(answer)) as url,
        pytest.raises(VerifierRefused, match="HTTP 404 without saying why"),
    ):
        client(url, ca_file).challenge()


def test_a_kept_connection_that_died_is_opened_again(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    with tls_server(simulator, tmp_path, lambda tls: tls.sendall(GOOD)) as url:
        verifier = client(url, ca_file)
        for _ in range(3):
            assert verifier.challenge().nonce == b"\x00\x00\x00"
            time.sleep(0.05)


def test_evidence_is_never_sent_twice(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    """The verifier may have taken it before the connection died; a nonce serves once."""
    requests: list[bytes] = []

    def keep_then_die(tls: ssl.SSLSocket) -> None:
        tls.sendall(GOOD)
        requests.append(tls.recv(65536))

    with tls_server(simulator, tmp_path, keep_then_die) as url:
        verifier = client(url, ca_file)
        verifier.challenge()
        with pytest.raises(VerifierUnreachable):
            verifier.submit(b"evidence")

    assert len(requests) == 1


def test_foreign_words_are_made_printable() -> None:
    assert printable("a\x00b\x1b[31m\n\u202e") == "a?b?[31m??"
    assert len(printable("x" * 10_000)) == 500


def test_tls_1_1_is_not_spoken(simulator: VerifierSimulator, tmp_path: Path, ca_file: str) -> None:
    verifier = client("https://localhost:1", ca_file)

    assert verifier._context(None).minimum_version is ssl.TLSVersion.TLSv1_2
    assert verifier._context(None).check_hostname is True
    assert verifier._context(None).verify_mode is ssl.CERT_REQUIRED


def judged_with(**more: object) -> bytes:
    following = {"nonce": "AAAA", "pcr_selection": "sha256:0", "expires_in_s": 60}
    answer = {
        "status": "affirming",
        "allow": True,
        "reasons": [],
        "result": "jwt",
        "next": following,
        "log_known": True,
        "attest_in_s": 5,
        **more,
    }
    return http(json.dumps(answer).encode())


@pytest.mark.parametrize(("told", "read"), [({}, 0), ({"ima_next": 0}, 0), ({"ima_next": 71}, 71)])
def test_where_the_list_goes_on_is_read_and_may_be_left_out(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str, told: dict[str, int], read: int
) -> None:
    with tls_server(simulator, tmp_path, lambda tls: tls.sendall(judged_with(**told))) as url:
        assert client(url, ca_file).submit(b"evidence").ima_next == read


@pytest.mark.parametrize("told", [-1, 500_001, 1.5, True, "7", None])
def test_no_place_in_a_list_is_no_verifiers_answer(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str, told: object
) -> None:
    answer = judged_with(ima_next=told)
    with (
        tls_server(simulator, tmp_path, lambda tls: tls.sendall(answer)) as url,
        pytest.raises(VerifierUnreachable, match="ima_next"),
    ):
        client(url, ca_file).submit(b"evidence")


def test_large_body_gets_more_time_than_a_small_one(
    simulator: VerifierSimulator, tmp_path: Path, ca_file: str
) -> None:
    def answer_late(tls: ssl.SSLSocket) -> None:
        tls.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while tls.recv(65536):
                pass
        tls.sendall(judged_with(ima_next=1))

    with tls_server(simulator, tmp_path, answer_late) as url:
        with pytest.raises(VerifierUnreachable):
            client(url, ca_file, read_timeout_s=0.5).submit(b"small")
        large = bytes(8 * SLOWEST_BYTES_PER_S)
        assert client(url, ca_file, read_timeout_s=0.5).submit(large).ima_next == 1
