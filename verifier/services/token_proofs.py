"""Proof that an AI agent's own key is there when a token over it is asked for (RFC 9449)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from attestation.errors import MalformedInput, NotFresh
from attestation.identity import AgentName
from attestation.refusals import RefusalCode
from attestation.wire.dpop import verify_proof
from attestation.wire.jwk import PublicKey
from verifier.appraisal.freshness import REPLICA_SKEW
from verifier.issuance.agents import agent_subject
from verifier.issuance.enrolment_policy import EnrolmentPolicy, ProofsMissing, TokenProof
from verifier.ports import DeviceRecord, Store
from verifier.services.challenge import Nonces

_STRUCTURE: Final = "token proof"
_SPENT_DOMAIN: Final = b"device-attestation/token-proof/v1\x00"


class TokenProofs:
    """Judges such proofs; each challenge is answered once, on one replica or on several.

    Args:
        store: Where challenges that were answered are noted until they end.
        nonces: Whose nonces are answered: those of agents' challenges.
        ttl: How long they live.
        policy: Returns the enrolment policy.
        public_url: Where devices reach us; empty if the settings do not say.
    """

    def __init__(
        self,
        *,
        store: Store,
        nonces: Nonces,
        ttl: timedelta,
        policy: Callable[[], EnrolmentPolicy],
        public_url: str,
    ) -> None:
        self._store = store
        self._nonces = nonces
        self._ttl = ttl
        self._policy = policy
        self._public_url = public_url

    def require(
        self,
        device: DeviceRecord,
        name: AgentName,
        key: PublicKey,
        shown: Sequence[str],
        path: str,
        at: datetime,
    ) -> None:
        """Check the proof that an agent's class wants; what is shown must hold in any case.

        Args:
            device: The agent's device.
            name: The agent.
            key: The certified key that a token is asked for.
            shown: The proofs in the request; more than one is malformed.
            path: What was asked, the part of the URI after our own.
            at: Now (aware).

        Raises:
            ProofsMissing: ``proofs-missing``.
            MalformedInput: ``token-proof-malformed``.
            VerificationError: ``token-proof-invalid``, ``token-proof-expired``, ``nonce-forged``,
                ``nonce-expired``, ``nonce-reused``.
        """
        if not shown:
            self._require_none_wanted(device, name)
            return
        if len(shown) > 1:
            raise _malformed(f"the request has {len(shown)} proofs, wanted one")
        if not self._public_url:
            raise _malformed(
                "this verifier's settings do not say for which URI a proof is made; send none, or "
                "set server.public_url"
            )
        nonce = verify_proof(shown[0], key, target=self._public_url + path, at=at)
        self._nonces.current().open(nonce, agent_subject(device.device, name), at)
        spent = hashlib.sha256(_SPENT_DOMAIN + nonce).digest()
        with self._store.work() as work:
            is_first = work.spend_activation(spent, at + self._ttl + 2 * REPLICA_SKEW)
        if not is_first:
            raise NotFresh(
                RefusalCode.NONCE_REUSED,
                "a token was given for this challenge before; ask for a new one",
                structure=_STRUCTURE,
            )

    def _require_none_wanted(self, device: DeviceRecord, name: AgentName) -> None:
        chosen = self._policy().agent_class_if_any(device.enrolment.device_class, name)
        if chosen is not None and chosen.token_proof is not TokenProof.NONE:
            raise ProofsMissing(
                RefusalCode.PROOFS_MISSING,
                f"class {chosen.name} wants proof of the agent's key for a token: ask for a "
                f"challenge, and sign it in the header field DPoP ({chosen.token_proof.value})",
                (chosen.token_proof.value,),
            )


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.TOKEN_PROOF_MALFORMED, reason, structure=_STRUCTURE)
