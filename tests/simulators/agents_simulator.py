"""AI agents at a verifier small enough to read: checks key, challenge, owner and scope.

``AgentsSimulator`` is a :class:`device_agent.agent_ports.AgentsVerifier` in process.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.evidence import certify_qualifying_data
from attestation.pcr import PcrSelection
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public
from attestation.tpm.signature import verify_attest
from attestation.wire.agent_codec import AgentRequest, certify_purpose, decode_agent
from attestation.wire.evidence_codec import decode_evidence
from attestation.wire.jwk import thumbprint
from attestation.wire.owner_binding import OwnerKey, verify_binding
from device_agent.agent_ports import AgentChallenge, AgentReply, TokenReply
from device_agent.errors import DeviceAgentError, VerifierRefused
from device_agent.ports import ChallengeReply
from tests.simulators.authority import Authority
from tests.simulators.soft_jose import holds, taken_apart, unb64

SCOPE = ("calendar.read", "mail.read", "mail.send")


class AgentsSimulator:
    """Judges just enough of an agent's request.

    Args:
        authority: Who certifies.
        selections: The PCRs that evidence is to quote.
        iak: Returns TPMT_PUBLIC of the enrolled device's attestation key.
        proofs: What every agent's class wants.
    """

    def __init__(
        self,
        authority: Authority,
        selections: tuple[PcrSelection, ...],
        iak: Callable[[], bytes],
        proofs: frozenset[str] = frozenset({"pop", "residency", "evidence"}),
    ) -> None:
        self.authority = authority
        self.selections = selections
        self.iak = iak
        self.proofs = proofs
        self.life = timedelta(days=7)
        self.token_life = timedelta(hours=1)
        self.owner: OwnerKey | None = None
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.calls: list[str] = []
        self.requests: list[AgentRequest] = []
        self.faults: dict[str, list[DeviceAgentError]] = {}
        self.keys: dict[str, str] = {}
        self.owner_nonces: set[bytes] = set()
        self.other_key: ec.EllipticCurvePublicKey | None = None
        """Certify this key instead of the one asked for."""
        self.wants_proof = False
        self.proven: list[str] = []
        self._nonces: dict[bytes, str] = {}

    def fail(self, call: str, *errors: DeviceAgentError) -> None:
        """Let the next calls of this name fail with these errors, in order."""
        self.faults.setdefault(call, []).extend(errors)

    def fall(self, agent: str) -> None:
        """Revoke an agent's certificates."""
        self.keys.pop(agent, None)

    def _begin(self, call: str, agent: str) -> None:
        self.calls.append(f"{call} {agent}")
        if self.faults.get(call):
            raise self.faults[call].pop(0)

    def agent_challenge(self, agent: str) -> AgentChallenge:
        self._begin("challenge", agent)
        nonce, owner_nonce = os.urandom(56), os.urandom(56)
        self._nonces[nonce] = agent
        self.owner_nonces.add(owner_nonce)
        return AgentChallenge(
            challenge=ChallengeReply(nonce=nonce, selections=self.selections, expires_in_s=60),
            agent_id=self._id(agent),
            agent_class="assistant",
            proofs=self.proofs,
            scope=SCOPE,
            owner_nonce=owner_nonce,
            owner_expires_in_s=604800,
        )

    def enrol_agent(self, message: bytes) -> AgentReply:
        request = decode_agent(message)
        self._begin("enrol", request.agent)
        self.requests.append(request)
        if self._nonces.pop(request.nonce, None) != request.agent:
            raise VerifierRefused("nonce-forged", "not our nonce", http_status=400)
        public = parse_public(request.agent_public)
        assert isinstance(public.key, ec.EllipticCurvePublicKey)
        self._judge(request, thumbprint(public.key))
        self.keys[request.agent] = thumbprint(public.key)
        leaf = self.authority.issue(
            request.agent, self.other_key or public.key, self.life, at=self.clock()
        )
        return AgentReply(
            agent_id=self._id(request.agent),
            certificate_chain_pem=leaf.public_bytes(Encoding.PEM).decode(),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            owner="alice" if request.owner_binding else "",
            capabilities=request.capabilities,
            token=self._token(request.agent),
            ima_next=0 if request.evidence else None,
        )

    def agent_token(self, agent: str, key: str, proof: str = "") -> TokenReply:
        self._begin("token", agent)
        if self.keys.get(agent) != key:
            raise VerifierRefused("agent-unknown", "no such agent", http_status=404)
        if self.wants_proof and not proof:
            raise VerifierRefused("proofs-missing", "dpop", http_status=403)
        if proof:
            self._require_proof(agent, key, proof)
        return self._token(agent)

    def token_target(self, agent: str) -> str:
        return f"https://verifier.test:8443/enrol/v1/agents/{agent}/tokens"

    def _require_proof(self, agent: str, key: str, proof: str) -> None:
        """Judge a DPoP proof by hand (RFC 9449, 4.3)."""
        header, claims, _ = taken_apart(proof)
        jwk = header["jwk"]
        assert isinstance(jwk, dict)
        point = b"\x04" + unb64(jwk["x"]) + unb64(jwk["y"])
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        assert thumbprint(public) == key
        assert holds(proof, public)
        assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256")
        assert (claims["htm"], claims["htu"]) == ("POST", self.token_target(agent))
        assert self._nonces.pop(unb64(str(claims["nonce"])), None) == agent
        assert claims["iat"] == int(self.clock().timestamp())
        self.proven.append(str(claims["jti"]))

    def _judge(self, request: AgentRequest, jkt: str) -> None:
        shown = {
            "pop": bool(request.csr),
            "residency": request.certify is not None,
            "evidence": bool(request.evidence),
            "aibom": bool(request.aibom),
            "owner-binding": bool(request.owner_binding),
            "provider-endorsement": bool(request.provider_endorsement),
        }
        if missing := sorted(proof for proof in self.proofs if not shown.get(proof, True)):
            raise VerifierRefused("proofs-missing", ", ".join(missing), http_status=403)
        public = parse_public(request.agent_public)
        if request.csr:
            csr = x509.load_der_x509_csr(request.csr)
            assert csr.is_signature_valid
            assert csr.public_key() == public.key
        if request.certify is not None:
            verify_attest(
                parse_public(self.iak()), request.certify.attest, request.certify.signature
            )
            said = parse_attest(request.certify.attest)
            assert said.certified is not None
            assert said.certified.name == public.name
            purpose = certify_purpose(request.agent)
            assert said.extra == certify_qualifying_data(request.nonce, purpose)
        if request.evidence:
            assert decode_evidence(request.evidence).nonce == request.nonce
        allowed = set(SCOPE)
        if request.owner_binding:
            assert self.owner is not None
            binding = verify_binding(
                request.owner_binding, self.owner, agent_thumbprint=jkt, at=self.clock()
            )
            assert binding.nonce in self.owner_nonces
            allowed &= set(binding.scope)
        if not set(request.capabilities) <= allowed:
            raise VerifierRefused("scope-exceeded", "not allowed", http_status=403)

    def _token(self, agent: str) -> TokenReply:
        return TokenReply(
            token=f"token-of-{agent}-{len(self.calls)}", expires_at=self.clock() + self.token_life
        )

    @staticmethod
    def _id(agent: str) -> str:
        return f"spiffe://example.test/device/dev-a/agent/{agent}"


def _challenge_document(given: AgentChallenge, challenge: dict[str, object]) -> dict[str, object]:
    return {
        **challenge,
        "agent_id": given.agent_id,
        "agent_class": given.agent_class,
        "proofs": sorted(given.proofs),
        "scope": list(given.scope),
        "owner_nonce": base64.urlsafe_b64encode(given.owner_nonce).rstrip(b"=").decode(),
        "owner_expires_in_s": given.owner_expires_in_s,
    }


def answer_agents(
    agents: AgentsSimulator,
    path: str,
    body: bytes,
    challenge_document: Callable[[ChallengeReply], dict[str, object]],
    read_json: Callable[[bytes], Any],
) -> dict[str, object]:
    """Answer one HTTP request below ``/enrol/v1/agents`` as the real API does."""
    if path == "/enrol/v1/agents/challenges":
        given = agents.agent_challenge(read_json(body)["agent"])
        return _challenge_document(given, challenge_document(given.challenge))
    if path.endswith("/tokens"):
        token = agents.agent_token(path.split("/")[-2], read_json(body)["key"])
        return {
            "agent_id": "x",
            "token": token.token,
            "token_expires_at": token.expires_at.isoformat(),
        }
    reply = agents.enrol_agent(body)
    return {
        "agent_id": reply.agent_id,
        "certificate_chain_pem": reply.certificate_chain_pem,
        "not_after": reply.not_after.isoformat(),
        "owner": reply.owner,
        "capabilities": list(reply.capabilities),
        "token": reply.token.token,
        "token_expires_at": reply.token.expires_at.isoformat(),
        "result": "jwt",
        "ima_next": reply.ima_next,
    }
