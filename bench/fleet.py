"""Devices for load: software TPMs behind real TLS connections that are kept.

A device here is as lean as it can be, since it runs beside the server that is measured: what does
not depend on the nonce is encoded once, requests are written whole, answers read whole.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attestation.evidence import ClaimValue, qualifying_data
from attestation.pcr import PcrSelection, parse_selection
from attestation.wire.evidence_codec import BoundParts, encode_evidence, encode_parts
from attestation.wire.media_types import ENROLMENT, EVIDENCE
from bench.inputs import boot
from device_agent.collector import Sources
from device_agent.enrolment import build_enrolment
from device_agent.ports import ChallengeReply, KeyRole
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_manufacturer import SoftManufacturer

CLAIMS: Final[Mapping[str, ClaimValue]] = {"kernel": "6.1.0-amd64", "agent_version": "bench"}
_TIMEOUT_S: Final = 30.0
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the verifier listens, and the PEM file with the CA of its certificate."""

    host: str
    port: int
    ca_file: Path


class Connection:
    """One kept HTTPS connection. Requests are answered in turn."""

    def __init__(self, address: Address, client: Path | None, token: str = "") -> None:
        context = ssl.create_default_context(cafile=str(address.ca_file))
        if client is not None:
            context.load_cert_chain(client)
        plain = socket.create_connection((address.host, address.port), timeout=_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(plain, server_hostname=address.host)
        self._host = f"{address.host}:{address.port}"
        self._token = token
        self._received = bytearray()

    def fileno(self) -> int:
        """The socket's descriptor, for epoll."""
        return self.tls.fileno()

    def send(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> None:
        """Write one request whole."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n"
        if self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        if media_type:
            head += f"Content-Type: {media_type}\r\n"
        self.tls.sendall(head.encode() + b"\r\n" + body)

    def read_some(self) -> tuple[int, bytes] | None:
        """Read what has come; return (status, body) once an answer is whole."""
        while True:
            piece = self.tls.recv(_READ_BYTES)
            if not piece:
                raise ConnectionError("the verifier closed the connection")
            self._received += piece
            if not self.tls.pending():
                break
        return self._whole_answer()

    def exchange(
        self, method: str, path: str, body: bytes = b"", media_type: str = ""
    ) -> tuple[int, bytes]:
        """Send one request and wait for its answer."""
        self.send(method, path, body, media_type)
        while True:
            if (answer := self.read_some()) is not None:
                return answer

    def ask(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> Any:  # noqa: ANN401 - JSON
        """Exchange and return the JSON answer.

        Raises:
            RuntimeError: If the answer is no success.
        """
        status, answer = self.exchange(method, path, body, media_type)
        if status // 100 != 2:  # noqa: PLR2004 - HTTP
            raise RuntimeError(f"{method} {path}: {status} {answer.decode(errors='replace')[:300]}")
        return json.loads(answer)

    def close(self) -> None:
        """Close the connection."""
        self.tls.close()

    def _whole_answer(self) -> tuple[int, bytes] | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end]).lower()
        mark = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[mark:].split(b"\r\n", 1)[0])
        if len(self._received) < end + 4 + length:
            return None
        body = bytes(self._received[end + 4 : end + 4 + length])
        status = int(head.split(b" ", 2)[1])
        del self._received[: end + 4 + length]
        return status, body


@dataclass(frozen=True, slots=True, kw_only=True)
class _FixedLog:
    content: bytes

    def read(self) -> bytes:
        return self.content


class _FixedClaims:
    def read(self) -> Mapping[str, ClaimValue]:
        return CLAIMS


class Device:
    """One device: made by the manufacturer, booted, enrolled, then attesting.

    Args:
        maker: Who certifies it.
        number: Its number; becomes its serial.
        log: Its firmware log.
        folder: For its TLS key files.
    """

    def __init__(self, maker: SoftManufacturer, number: int, log: bytes, folder: Path) -> None:
        self.tpm = SoftTpm(maker, serial=f"BENCH-{number:05d}")
        boot(self.tpm, log)
        self._log = log
        self._folder = folder
        self._parts: BoundParts | None = None
        self._selections: tuple[PcrSelection, ...] = ()
        self.id = ""
        self.challenge: Mapping[str, Any] = {}

    def enrol(self, address: Address) -> None:
        """Enrol with the IDevID and keep the LDevID certificate."""
        idevid = x509.load_der_x509_certificate(self.tpm.certificates[KeyRole.IDEVID])
        client = self._client_file(KeyRole.IDEVID, idevid.public_bytes(Encoding.PEM))
        connection = Connection(address, client)
        challenge = connection.ask("POST", "/enrol/v1/challenges")
        reply = ChallengeReply(
            nonce=_nonce(challenge),
            selections=parse_selection(challenge["pcr_selection"]),
            expires_in_s=challenge["expires_in_s"],
        )
        sources = Sources(
            tpm=self.tpm, firmware_log=_FixedLog(content=self._log), host=_FixedClaims()
        )
        message = build_enrolment(sources, reply)
        answer = connection.ask("POST", "/enrol/v1/requests", message, ENROLMENT)
        connection.close()
        self.id = answer["device_id"]
        self._client_file(KeyRole.LDEVID, answer["certificate_chain_pem"].encode())

    def connect(self, address: Address) -> Connection:
        """Connect with the LDevID and take the first challenge."""
        connection = Connection(address, self._folder / f"{self.tpm.serial}-ldevid.pem")
        self.challenge = connection.ask("POST", "/attest/v1/challenges")
        return connection

    def evidence(self) -> bytes:
        """Answer the challenge in hand; the log goes by digest (it came with the enrolment)."""
        nonce = _nonce(self.challenge)
        if self._parts is None:
            self._selections = parse_selection(self.challenge["pcr_selection"])
            values = self.tpm.read_pcrs(self._selections)
            self._parts = encode_parts(values, self._log, log_digest_only=True, claims=CLAIMS)
        quote = self.tpm.quote(self._selections, qualifying_data(nonce, self._parts.digests))
        return encode_evidence(nonce, quote, self._parts)

    def pcrs_changed(self) -> None:
        """Forget what was encoded, after the PCRs were changed."""
        self._parts = None

    def send_evidence(self, connection: Connection) -> None:
        """Send fresh evidence."""
        connection.send("POST", "/attest/v1/evidence", self.evidence(), EVIDENCE)

    def take_answer(self, status: int, body: bytes) -> Mapping[str, Any]:
        """Keep the next challenge of an answer to evidence.

        Raises:
            RuntimeError: If the answer is no success.
        """
        if status != 200:  # noqa: PLR2004 - HTTP
            raise RuntimeError(f"evidence: {status} {body.decode(errors='replace')[:300]}")
        answer: Mapping[str, Any] = json.loads(body)
        self.challenge = answer["next"]
        return answer

    def _client_file(self, role: KeyRole, certificates: bytes) -> Path:
        key = self.tpm.keys[role].private
        path = self._folder / f"{self.tpm.serial}-{role.value}.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificates
        )
        return path


def _nonce(challenge: Mapping[str, Any]) -> bytes:
    text = challenge["nonce"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
