"""A court before which an AI agent's files, their log and its AIBOM are brought."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Evidence, qualifying_data
from attestation.logs.cel import (
    Measurement,
    RecordKind,
    content_digests,
    decode_cel,
    encode_content,
    encode_record,
)
from attestation.result import AttestationResult
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from tests.simulators import soft_agent
from tests.simulators.soft_provider import SoftProvider
from tests.verifier.appraisal.courtroom import Courtroom
from verifier.appraisal.policy import AppraisalPolicy, load_policy
from verifier.reference_values.aibom import AiBom, load_aibom, pack_aibom

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
BANKS = (SHA1, SHA256)
PCR = 13

POLICY = """
id = "agent/1"
description = "What the AI agent consists of."
[quote]
selection = "sha256:0,13+sha1:13"
[[pcrs]]
indices = [0]
claim = "hardware"
known = 2
unknown = 96
missing = 32
coverage = "reported"
[[pcrs]]
indices = [13]
claim = "executables"
known = 3
unknown = 96
missing = 96
match = "log"
[agent]
"""


def policy(rules: str = "") -> AppraisalPolicy:
    return load_policy(POLICY + (rules or "require_endorsement = true"), "test")


def files_of(changes: dict[str, bytes | None]) -> list[Measurement]:
    """Measure the agent's files with some replaced (bytes) or left out (None)."""
    contents: dict[str, bytes | None] = {path: one for path, (_, one) in soft_agent.FILES.items()}
    contents |= changes
    return [
        Measurement(
            kind=RecordKind.FILE, path=path, digest=bytes.fromhex(soft_agent.sha256(content))
        )
        for path, content in sorted(contents.items())
        if content is not None
    ]


class AgentCourt(Courtroom):
    """A device that measured the AI agent, and a verifier that holds its AIBOM."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = policy()
        self.document = soft_agent.text(soft_agent.aibom())
        self.provider = SoftProvider()
        self.trusted = {"acme": self.provider.pem}
        self.endorsement: dict[str, Any] | None = self.provider.endorse(self.document)
        self.agent_log = b""

    @property
    def aibom(self) -> Measurement:
        digest = bytes.fromhex(soft_agent.sha256(self.document))
        return Measurement(kind=RecordKind.AIBOM, path="agent.cdx.json", digest=digest)

    def load(self) -> AiBom:
        envelope = None if self.endorsement is None else json.dumps(self.endorsement)
        return load_aibom(pack_aibom(self.document.decode(), envelope), "test", self.trusted)

    def measure(self, *measured: Measurement) -> None:
        """Extend and log, as an honest device agent does."""
        for one in measured:
            content = encode_content(one)
            digests = content_digests(content, BANKS)
            number = len(decode_cel(self.agent_log).records) if self.agent_log else 0
            self.agent_log += encode_record(number, PCR, digests, content)
            self.tpm.extend_pcr(PCR, digests)

    def install(self, **changes: bytes | None) -> None:
        self.measure(
            self.aibom, *files_of({path.replace("__", "/"): one for path, one in changes.items()})
        )

    def heard(self, log: bytes | None) -> Evidence:
        nonce = self.nonce()
        values = self.tpm.read_pcrs(self.policy.selections)
        parts = encode_parts(values, self.log, False, {}, agent_log=log)  # noqa: FBT003
        quote = self.tpm.quote(self.policy.selections, qualifying_data(nonce, parts.digests))
        return decode_evidence(encode_evidence(nonce, quote, parts))

    def verdict(self, log: bytes | None = None) -> AttestationResult:
        bom = self.load()
        self.reference = replace(self.reference, aiboms={bom.sha256: bom})
        return self.judge(self.heard(self.agent_log if log is None else log))


def reasons(result: AttestationResult, code: str) -> str:
    return " | ".join(one.reason for one in result.findings if one.code == code)


def encode(measured: Iterable[Measurement], *, pcr: int = PCR, banks: Any = BANKS) -> bytes:
    log = b""
    for number, one in enumerate(measured):
        content = encode_content(one)
        log += encode_record(number, pcr, content_digests(content, banks), content)
    return log
