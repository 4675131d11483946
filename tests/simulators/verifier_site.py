"""A real verifier on a free port, in a thread, and software devices that speak to it over TLS."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.algorithms import HashAlgorithm
from attestation.evidence import ImaPart, certify_qualifying_data, qualifying_data
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.pcr import PcrSelection, parse_selection
from attestation.wire.enrolment_codec import EnrolmentRequest, encode_enrolment
from attestation.wire.evidence_codec import encode_evidence, encode_parts
from attestation.wire.media_types import ENROLMENT, EVIDENCE
from device_agent.ports import KeyRole
from tests.simulators.firmware_log import agile_event, header
from tests.simulators.ima_kernel import ImaKernel
from tests.simulators.made_authority import copy_authority
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_manufacturer import SoftManufacturer
from verifier.keys.setup import initialise
from verifier.main import Verifier
from verifier.services.reference_values import REFRESH, ReferenceValues
from verifier.services.tokens import Tokens
from verifier.settings import Settings, load_settings
from verifier.sources import SystemClock, SystemEntropy
from verifier.store.migrate import migrate

SEPARATOR_EVENT = 4
ACTION_EVENT = 5


def boot_log(kernel: bytes = b"kernel 6.1") -> bytes:
    """A small firmware log that covers PCR 0 to 9 and 14 in two banks."""
    events = [header()]
    events += [agile_event(pcr, ACTION_EVENT, b"part %d" % pcr) for pcr in (*range(8), 14)]
    events += [agile_event(pcr, SEPARATOR_EVENT, bytes(4)) for pcr in range(8)]
    events += [agile_event(pcr, ACTION_EVENT, kernel) for pcr in (8, 9)]
    return b"".join(events)


def in_use() -> None:
    """Wait until the running verifier has looked at its store again."""
    threading.Event().wait(REFRESH.total_seconds() + 0.1)


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


class Client:
    """A keep-alive HTTPS connection, with or without a client certificate."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, token: str = "") -> None:
        self.connection = http.client.HTTPSConnection(host, port, context=context, timeout=30)
        self._token = token

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if content_type:
            sent["Content-Type"] = content_type
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        self.connection.request(method, path, body=body, headers=sent)  # type: ignore[arg-type]
        got = self.connection.getresponse()
        return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: object = b"", content_type: str = "") -> Answer:
        return self.request("POST", path, body=body, content_type=content_type)

    def close(self) -> None:
        self.connection.close()


class VerifierSite:
    """Keys, configuration and a store in one folder; starts and stops the verifier."""

    def __init__(
        self,
        folder: Path,
        manufacturer: SoftManufacturer,
        *,
        policy: str = "development",
        store: str = "",
        extra: str = "",
        trust: str = "",
        server: str = "port = 0",
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.manufacturer = manufacturer
        (folder / "maker.pem").write_bytes(manufacturer.root_pem)
        self.config = folder / "verifier.toml"
        self.config.write_text(
            f"""
[server]
{server}
[store]
url = "{store or f"sqlite:///{folder}/verifier.db"}"
[keys]
directory = "{folder}/keys"
[trust]
manufacturer_roots = ["{folder}/maker.pem"]
trust_domain = "fleet.example"
{trust}
[policy]
appraisal = "{policy}"
{extra}
"""
        )
        copy_authority(folder / "keys", datetime.now(UTC))
        initialise(
            folder / "keys",
            hostnames=("localhost", "127.0.0.1"),
            at=datetime.now(UTC),
            entropy=SystemEntropy(),
        )
        self.settings: Settings = load_settings(self.config.read_text(), str(self.config), {})
        migrate(self.settings.store.url)
        self.verifier: Verifier | None = None
        self.port = 0
        self._clients: list[Client] = []

    @property
    def service_ca(self) -> Path:
        return self.folder / "keys" / "service-ca.cert.pem"

    def start(self) -> None:
        self.verifier = Verifier(self.settings)
        self._server = self.verifier.server()
        self.port = self._server.address[1]
        ready = threading.Event()
        self.verifier.start()
        self._thread = threading.Thread(target=self._server.serve, args=(ready.set,))
        self._thread.start()
        assert ready.wait(20)

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        if self.verifier is not None:
            self._server.finish()
            self._thread.join(20)
            assert not self._thread.is_alive()
            self.verifier.stop()
            self.verifier = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def replica(self) -> VerifierSite:
        """Another verifier with the same keys and store, not started."""
        twin = copy.copy(self)
        twin.verifier, twin.port, twin._clients = None, 0, []
        return twin

    @property
    def running(self) -> Verifier:
        assert self.verifier is not None
        return self.verifier

    def context(self, chain_pem: bytes = b"", key: object = None) -> ssl.SSLContext:
        """A client's TLS context, with a certificate if one is given."""
        context = ssl.create_default_context(cafile=str(self.service_ca))
        if key is not None:
            assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
            path = self.folder / f"client-{id(key)}-{len(chain_pem)}.pem"
            path.write_bytes(
                chain_pem
                + key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            context.load_cert_chain(path)
        return context

    def client(self, chain_pem: bytes = b"", key: object = None, token: str = "") -> Client:
        client = Client("127.0.0.1", self.port, self.context(chain_pem, key), token)
        self._clients.append(client)
        return client

    def token(self, role: str = "reader", name: str = "test") -> str:
        tokens = Tokens(self.running.store, SystemEntropy())
        return tokens.create(name, role, datetime.now(UTC))

    def learn(self, name: str, device: SiteDevice) -> None:
        """Learn reference values from a device's last evidence, and see that they are in use."""
        values = ReferenceValues(self.running.store, self.running.policy)
        values.learn_device(device.device_id, name, datetime.now(UTC))

    def device(self, serial: str = "SN-0001", log: bytes | None = None) -> SiteDevice:
        return SiteDevice(site=self, tpm=SoftTpm(self.manufacturer, serial=serial), log=log)


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


@dataclass
class SiteDevice:
    """A software device that enrols with and attests to a site."""

    site: VerifierSite
    tpm: SoftTpm
    log: bytes | None = None
    device_id: str = ""
    chain_pem: bytes = b""
    challenge: dict[str, Any] = field(default_factory=dict)
    log_known: bool = False
    kernel: ImaKernel | None = None
    ima_next: int = 0
    agent_log: Callable[[], bytes | None] | None = None
    fell: bool = False
    _client: Client | None = None

    def __post_init__(self) -> None:
        if self.log is None:
            self.log = boot_log()
        self.boot(self.log)

    def boot(self, log: bytes) -> None:
        """Boot: the PCRs become what the log says."""
        self.log = log
        self.log_known = False
        self.ima_next = 0
        parsed = parse_firmware_log(log)
        self.tpm.load_pcrs(replay(parsed).pcrs)
        if self.kernel is not None:
            self.kernel.boot(self.boot_aggregate())

    def boot_aggregate(self) -> bytes:
        """What the kernel measures first: the hash of PCRs 0 to 9 (ima_calc_boot_aggregate)."""
        sha256 = HashAlgorithm.SHA256
        values = self.tpm.read_pcrs((PcrSelection(bank=sha256, indices=tuple(range(10))),))[sha256]
        return sha256.digest(b"".join(values[index] for index in range(10)))

    def measures(self, folder: Path) -> ImaKernel:
        """Let the machine measure what it runs from now on; boots it."""
        assert self.log is not None
        self.kernel = ImaKernel(folder, self._extend, (HashAlgorithm.SHA256,))
        self.boot(self.log)
        return self.kernel

    def _extend(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        for bank, digest in digests.items():
            self.tpm.extend(bank, pcr, digest)

    def _ima_list(self) -> ImaPart | None:
        if self.kernel is None:
            return None
        new = self.kernel.entries[self.ima_next :]
        return ImaPart(offset=self.ima_next, content=b"".join(new))

    def evidence(self, challenge: Mapping[str, Any], **claims: str) -> bytes:
        nonce = decode_nonce(challenge)
        selections = parse_selection(challenge["pcr_selection"])
        agent_log = self.agent_log() if self.agent_log is not None else None
        parts = encode_parts(
            self.tpm.read_pcrs(selections),
            self.log,
            self.log_known,
            {"kernel": "6.1", **claims},
            ima_list=self._ima_list(),
            agent_log=agent_log,
        )
        quote = self.tpm.quote(selections, qualifying_data(nonce, parts.digests))
        return encode_evidence(nonce, quote, parts)

    def enrolment_request(self, challenge: Mapping[str, Any]) -> EnrolmentRequest:
        tpm, nonce = self.tpm, decode_nonce(challenge)
        tpm.create_ldevid()
        chain = self.site.manufacturer.intermediates
        idevid, iak = tpm.certificate(KeyRole.IDEVID), tpm.certificate(KeyRole.IAK)
        assert idevid is not None
        assert iak is not None
        return EnrolmentRequest(
            idevid_chain=(idevid, *chain),
            iak_chain=(iak, *chain),
            idevid_public=tpm.public_area(KeyRole.IDEVID),
            iak_public=tpm.public_area(KeyRole.IAK),
            ldevid_public=tpm.public_area(KeyRole.LDEVID),
            idevid_certify=tpm.certify(KeyRole.IDEVID, certify_qualifying_data(nonce, "idevid")),
            ldevid_certify=tpm.certify(KeyRole.LDEVID, certify_qualifying_data(nonce, "ldevid")),
            csr=tpm.csr(KeyRole.LDEVID, "device", ()),
            evidence=self.evidence(challenge),
        )

    def idevid_client(self) -> Client:
        der = self.tpm.certificate(KeyRole.IDEVID)
        assert der is not None
        return self.site.client(pem(der), self.tpm.keys[KeyRole.IDEVID].private)

    def enrol(self) -> Answer:
        client = self.idevid_client()
        challenge = client.post("/enrol/v1/challenges")
        assert challenge.status == 200, challenge.body
        message = encode_enrolment(self.enrolment_request(challenge.json))
        answer = client.post("/enrol/v1/requests", message, ENROLMENT)
        if answer.status == 201:
            self.device_id = answer.json["device_id"]
            self.chain_pem = answer.json["certificate_chain_pem"].encode()
            self.ima_next = answer.json["ima_next"]
            self._client = None
        return answer

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self) -> Client:
        return self.site.client(self.chain_pem, self.tpm.keys[KeyRole.LDEVID].private)

    def reconnect(self) -> None:
        """Connect anew next time, as to a verifier that was restarted."""
        self._client = None

    def ask(self) -> dict[str, Any]:
        answer = self.client.post("/attest/v1/challenges")
        assert answer.status == 200, answer.body
        return answer.json

    def submit(self, message: bytes) -> Answer:
        answer = self.client.post("/attest/v1/evidence", message, EVIDENCE)
        if answer.status == 200:
            self.challenge = answer.json["next"]
            self.log_known = answer.json["log_known"]
            self.ima_next = answer.json["ima_next"]
        return answer

    def attest(self) -> Answer:
        """Attest once, with the challenge of the last answer if there is one."""
        challenge, self.challenge = self.challenge or self.ask(), {}
        answer = self.submit(self.evidence(challenge))
        if answer.status == 200:
            self._come_back(answer.json["status"])
        return answer

    def _come_back(self, status: str) -> None:
        """Enrol again once well, as the daemon does when it is told that its certificate fell."""
        if status == "contraindicated":
            self.fell = True
        elif self.fell:
            self.fell = False
            self.challenge, self.log_known, self.ima_next = {}, False, 0
            again = self.enrol()
            assert again.status == 201, again.body

    def tamper(self) -> None:
        """Extend a PCR that no log explains."""
        self.tpm.extend(HashAlgorithm.SHA256, 4, bytes(range(32)))


def decode_nonce(challenge: Mapping[str, Any]) -> bytes:
    text = challenge["nonce"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def now() -> datetime:
    return SystemClock().now()
