"""A verifier small enough to read: checks what binds evidence together, and fails when told to.

``VerifierSimulator`` is a :class:`device_agent.ports.VerifierClient` in process;
``https_verifier`` puts the same object behind a real TLS socket with the real API's layout.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.algorithms import HashAlgorithm
from attestation.evidence import ImaPart, certify_qualifying_data, qualifying_data
from attestation.pcr import PcrSelection
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public
from attestation.tpm.signature import verify_attest
from attestation.wire.enrolment_codec import decode_activation, decode_enrolment
from attestation.wire.evidence_codec import decode_evidence
from device_agent.errors import DeviceAgentError, VerifierRefused
from device_agent.ports import (
    ActivationReply,
    ChallengeReply,
    EnrolmentReply,
    EvidenceReply,
    KeyRole,
)
from tests.simulators.agents_simulator import AgentsSimulator, answer_agents
from tests.simulators.authority import Authority
from tests.simulators.ima_kernel import split_entries

SELECTIONS = (PcrSelection(bank=HashAlgorithm.SHA256, indices=(0, 1, 2, 7)),)


class VerifierSimulator:
    """Judges just enough: signature, nonce, binding; ``tampered`` PCR values contradict."""

    def __init__(self, *, life: timedelta = timedelta(days=30), attest_in_s: float = 1.0) -> None:
        self.authority = Authority()
        self.life = life
        self.attest_in_s = attest_in_s
        self.calls: list[str] = []
        self.faults: dict[str, list[DeviceAgentError]] = {}
        self.golden: dict[int, bytes] | None = None
        self.known_logs: set[bytes] = set()
        self.iak: bytes | None = None
        self.selections = SELECTIONS
        self.entries: list[bytes] = []
        self.offsets: list[int | None] = []
        self._nonces: dict[bytes, str] = {}
        self.agents = AgentsSimulator(self.authority, self.selections, self._enrolled_iak)

    def _enrolled_iak(self) -> bytes:
        assert self.iak is not None
        return self.iak

    def fail(self, call: str, *errors: DeviceAgentError) -> None:
        """Let the next calls of this name fail with these errors, in order."""
        self.faults.setdefault(call, []).extend(errors)

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if self.faults.get(call):
            raise self.faults[call].pop(0)

    def _challenge(self, purpose: str) -> ChallengeReply:
        nonce = os.urandom(56)
        self._nonces[nonce] = purpose
        return ChallengeReply(nonce=nonce, selections=self.selections, expires_in_s=60)

    def _spend(self, nonce: bytes, purpose: str) -> None:
        if self._nonces.pop(nonce, None) != purpose:
            raise VerifierRefused("nonce-forged", "not our nonce", http_status=400)

    def enrols_as(self) -> KeyRole | None:
        return KeyRole.IDEVID

    def begin_activation(self, message: bytes) -> ActivationReply:
        assert decode_activation(message)
        self._begin("begin_activation")
        raise VerifierRefused("enrolment-denied", "no class rests on it", http_status=403)

    def enrolment_challenge(self) -> ChallengeReply:
        self._begin("enrolment_challenge")
        return self._challenge("enrol")

    def challenge(self) -> ChallengeReply:
        self._begin("challenge")
        return self._challenge("attest")

    def enrol(self, message: bytes) -> EnrolmentReply:
        self._begin("enrol")
        request = decode_enrolment(message)
        evidence = decode_evidence(request.evidence)
        self._spend(evidence.nonce, "enrol")
        iak = parse_public(request.iak_public)
        for certify, subject, public in (
            (request.idevid_certify, "idevid", request.idevid_public),
            (request.ldevid_certify, "ldevid", request.ldevid_public),
        ):
            verify_attest(iak, certify.attest, certify.signature)
            said = parse_attest(certify.attest)
            assert said.certified is not None
            assert said.certified.name == parse_public(public).name
            assert said.extra == certify_qualifying_data(evidence.nonce, subject)
        self.iak = request.iak_public
        self._judge(request.evidence)
        csr = x509.load_der_x509_csr(request.csr)
        assert csr.is_signature_valid
        leaf_key = csr.public_key()
        assert isinstance(leaf_key, ec.EllipticCurvePublicKey)
        leaf = self.authority.issue("dev-a", leaf_key, self.life)
        return EnrolmentReply(
            device_id="dev-a",
            certificate_chain_pem=leaf.public_bytes(Encoding.PEM).decode(),
            not_after=leaf.not_valid_after_utc,
        )

    def submit(self, evidence: bytes) -> EvidenceReply:
        self._begin("submit")
        if self.iak is None:
            raise VerifierRefused("device-unknown", "never enrolled", http_status=404)
        self._spend(decode_evidence(evidence).nonce, "attest")
        good = self._judge(evidence)
        return EvidenceReply(
            status="affirming" if good else "contraindicated",
            allowed=good,
            reasons=() if good else ("reference-mismatch: PCR 7 differs",),
            result="e30.e30.x",
            next=self._challenge("attest"),
            log_known=True,
            attest_in_s=self.attest_in_s,
            ima_next=len(self.entries),
        )

    def _take_list(self, part: ImaPart | None) -> None:
        """Keep the list's entries; one that does not go on from what is kept is asked for whole."""
        self.offsets.append(None if part is None else part.offset)
        if part is None:
            return
        if part.offset not in (0, len(self.entries)):
            raise VerifierRefused("ima-offset-unknown", "send the list", http_status=409)
        self.entries[part.offset :] = split_entries(part.content)

    def _judge(self, message: bytes) -> bool:
        evidence = decode_evidence(message)
        log = evidence.firmware_log
        if log is not None and log.content is None and log.digest not in self.known_logs:
            raise VerifierRefused("log-unknown", "send the log", http_status=409)
        if log is not None:
            self.known_logs.add(log.digest)
        self._take_list(evidence.ima_list)
        assert self.iak is not None
        verify_attest(parse_public(self.iak), evidence.quote.attest, evidence.quote.signature)
        said = parse_attest(evidence.quote.attest)
        assert said.extra == qualifying_data(evidence.nonce, evidence.part_digests)
        values = dict(evidence.pcr_values[HashAlgorithm.SHA256])
        if self.golden is None:
            self.golden = values
        return values == self.golden

    def close(self) -> None:
        """Nothing to close."""


def _challenge_document(reply: ChallengeReply) -> dict[str, object]:
    return {
        "nonce": base64.urlsafe_b64encode(reply.nonce).rstrip(b"=").decode(),
        "pcr_selection": "+".join(item.describe() for item in reply.selections),
        "expires_in_s": reply.expires_in_s,
    }


def _answer(simulator: VerifierSimulator, path: str, body: bytes) -> dict[str, object]:
    if path == "/enrol/v1/challenges":
        return _challenge_document(simulator.enrolment_challenge())
    if path == "/attest/v1/challenges":
        return _challenge_document(simulator.challenge())
    if path == "/enrol/v1/requests":
        enrolled = simulator.enrol(body)
        return {
            "device_id": enrolled.device_id,
            "certificate_chain_pem": enrolled.certificate_chain_pem,
            "not_after": enrolled.not_after.isoformat(),
            "result": "jwt",
        }
    if path.startswith("/enrol/v1/agents"):
        return answer_agents(simulator.agents, path, body, _challenge_document, json.loads)
    judged = simulator.submit(body)
    return {
        "status": judged.status,
        "allow": judged.allowed,
        "reasons": list(judged.reasons),
        "vector": {},
        "result": judged.result,
        "next": _challenge_document(judged.next),
        "log_known": judged.log_known,
        "ima_next": judged.ima_next,
        "attest_in_s": judged.attest_in_s,
    }


def _door(simulator: VerifierSimulator) -> type[BaseHTTPRequestHandler]:
    """Return the HTTP door of one simulator."""

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"status": "ok"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            try:
                self._send(200, _answer(simulator, self.path, body))
            except DeviceAgentError as error:
                status = getattr(error, "http_status", 503) or 503
                self._send(status, {"code": str(error.code), "detail": error.reason})

        def _send(self, status: int, document: dict[str, object]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Door


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses us or goes away is no news."""


@contextmanager
def https_verifier(
    simulator: VerifierSimulator,
    folder: Path,
    *,
    client_anchors: bytes = b"",
    host: str = "localhost",
) -> Iterator[str]:
    """Serve the simulator over HTTPS on a free port; yields the URL.

    Args:
        simulator: Who answers.
        folder: For the server's certificate and key.
        client_anchors: PEM of the CAs whose client certificates are required; none if empty.
        host: The name in the server's certificate.
    """

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*simulator.authority.server_files(folder, host))
    if client_anchors:
        context.load_verify_locations(cadata=client_anchors.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    server = _Server(("127.0.0.1", 0), _door(simulator))
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
