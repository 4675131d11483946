"""Fresh tokens for AI agents and devices that are enrolled already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from attestation.identity import agent_name
from attestation.refusals import RefusalCode
from attestation.wire.jwk import PublicKey, thumbprint
from verifier.errors import NotAuthenticated, NotFound
from verifier.ports import DeviceRecord, Store
from verifier.ports.credentials import StoredCertificate
from verifier.services.agent_issue import require_alive
from verifier.services.token_proofs import TokenProofs
from verifier.services.workload_tokens import WorkloadTokens

THUMBPRINT_CHARS: Final = 43
"""SHA-256 in base64url."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenQuestion:
    """What is asked for an agent.

    Attributes:
        name: The agent's.
        key: RFC 7638 thumbprint of the key, of whichever certificate still stands; empty for the
            newest certificate's.
        proofs: Proofs of that key.
        path: The request's path, which a proof is made for.
    """

    name: str
    key: str
    proofs: tuple[str, ...]
    path: str


class AgentTokens:
    """The use case.

    Args:
        store: Where certificates are.
        tokens: Makes tokens.
        proofs: Judges proofs of agents' keys.
    """

    def __init__(self, store: Store, tokens: WorkloadTokens, proofs: TokenProofs) -> None:
        self._store = store
        self._tokens = tokens
        self._proofs = proofs

    def for_agent(
        self, device: DeviceRecord, asked: TokenQuestion, at: datetime
    ) -> dict[str, object]:
        """Return a token over the key of an agent's certificate.

        Args:
            device: Who asks; not revoked.
            asked: For what.
            at: Now (aware).

        Raises:
            NotFound: ``agent-unknown``, also if no certificate that stands has such a key.
            NotAuthorised: ``agent-revoked``, ``certificate-revoked``, ``certificate-expired``.
            AttestationError: As :meth:`TokenProofs.require`.
        """
        wanted, key = agent_name(asked.name), asked.key
        agent = self._store.agent(device.device, wanted)
        if agent is None:
            raise NotFound(
                RefusalCode.AGENT_UNKNOWN, f"no agent {wanted} is enrolled on {device.device}"
            )
        require_alive(agent, at)
        stored = (
            self._by_key(device, wanted, key, at)
            if key
            else self._store.certificate(agent.certificate_sha256)
        )
        if stored is None:
            raise NotFound(
                RefusalCode.AGENT_UNKNOWN,
                f"no certificate of agent {wanted} that still stands has this key",
            )
        certified = x509.load_der_x509_certificate(stored.certificate.der).public_key()
        if not isinstance(certified, PublicKey):
            raise TypeError("a certificate of ours holds a key that tokens cannot name")
        self._proofs.require(device, wanted, certified, asked.proofs, asked.path, at)
        return {"agent_id": agent.holder, **self._tokens.issue(stored, at).document()}

    def for_device(self, device: DeviceRecord, presented: bytes, at: datetime) -> dict[str, object]:
        """Return a token over the key of the certificate that the connection was made with.

        Args:
            device: Who asks; not revoked.
            presented: DER of the TLS client certificate.
            at: Now (aware).

        Raises:
            NotAuthenticated: ``client-certificate-wrong`` if it is not that device's.
            NotAuthorised: ``certificate-revoked``, ``certificate-expired``.
        """
        stored = self._store.certificate(hashlib.sha256(presented).digest())
        if stored is None or stored.certificate.device != device.device:
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_WRONG,
                "the client certificate is not one of this device; enrol first",
            )
        return {"device_id": device.device, **self._tokens.issue(stored, at).document()}

    def _by_key(
        self, device: DeviceRecord, name: str, key: str, at: datetime
    ) -> StoredCertificate | None:
        for one in self._store.live_certificates(device.device, name, at):
            found = x509.load_der_x509_certificate(one.certificate.der).public_key()
            if isinstance(found, PublicKey) and thumbprint(found) == key:
                return one
        return None
