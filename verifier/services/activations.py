"""Challenge a device by its endorsement key, and take each answer once, whichever replica it meets.

Beginning one leaves nothing behind; trying one leaves its digest in the store until its time is
over (:mod:`verifier.issuance.activation`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attestation.base64url import base64url_text
from attestation.errors import NotFresh, VerificationError
from attestation.identity import KeyName
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public, require_attestation_key
from attestation.wire.enrolment_codec import decode_activation
from verifier.issuance.activation import ACTIVATION_TTL, BEGIN_ENTROPY_BYTES, ActivationAuthority
from verifier.issuance.endorsement_key import EK_TRUST, ek_subject, judge_endorsement_key
from verifier.issuance.enrolment_terms import EnrolmentTerms, enrolment_subject
from verifier.ports import Entropy, Store
from verifier.services.challenge import Challenges


class CredentialActivations:
    """Implements :class:`verifier.issuance.enrolment_terms.Activations`.

    Args:
        store: Where tried activations are remembered.
        keys: Returns the keys that all replicas share, newest first.
        entropy: Randomness.
        challenges: Gives the nonce that the enrolment will answer.
        terms: What the owner asks at a moment.
    """

    def __init__(
        self,
        *,
        store: Store,
        keys: Callable[[], tuple[bytes, ...]],
        entropy: Entropy,
        challenges: Challenges,
        terms: Callable[[datetime], EnrolmentTerms],
    ) -> None:
        self._store = store
        self._keys = keys
        self._entropy = entropy
        self._challenges = challenges
        self._terms = terms

    def begin(self, message: bytes, presented: bytes | None, at: datetime) -> dict[str, object]:
        """Wrap a secret to a device's endorsement key and attestation key.

        Args:
            message: An activation request (CBOR).
            presented: DER of the TLS client certificate; None without one.
            at: Now (aware).

        Returns:
            ``activation`` with ``id``, ``credential`` (TPM2B_ID_OBJECT), ``seed``
            (TPM2B_ENCRYPTED_SECRET) and ``expires_in_s``, beside an enrolment challenge; bytes as
            base64url.

        Raises:
            VerificationError: ``enrolment-denied`` where no class rests on endorsement keys; the
                codes of :func:`verifier.issuance.endorsement_key.judge_endorsement_key`; of an
                attestation key that cannot be one.
            InputError: If something is malformed, or of a kind that we do not take.
        """
        request, terms = decode_activation(message), self._terms(at)
        wanted = terms.enrolment.trust_names & EK_TRUST
        if not wanted:
            raise VerificationError(
                RefusalCode.ENROLMENT_DENIED,
                "no class of the enrolment policy rests on an endorsement key; enrol with the "
                "manufacturer's identity (IDevID)",
                structure="enrolment policy",
            )
        ek = judge_endorsement_key(
            request.ek_public, request.ek_chain, wanted=wanted, sources=terms.sources, at=at
        )
        iak = parse_public(request.iak_public)
        require_attestation_key(iak)
        subject = (
            ek_subject(ek.sha256, iak.name) if presented is None else enrolment_subject(presented)
        )
        begun = self._authority().begin(
            ek.key,
            ek_sha256=ek.sha256,
            ak_name=iak.name,
            subject=subject,
            at=at,
            entropy=self._entropy.take(BEGIN_ENTROPY_BYTES),
        )
        return {
            "activation": {
                "id": base64url_text(begun.activation),
                "credential": base64url_text(begun.credential.blob),
                "seed": base64url_text(begun.credential.encrypted_seed),
                "expires_in_s": ACTIVATION_TTL.total_seconds(),
            },
            **self._challenges.for_subject(subject, at),
        }

    def redeem(
        self,
        activation: bytes,
        answer: bytes,
        *,
        ek_sha256: bytes,
        ak_name: KeyName,
        subject: str,
        at: datetime,
    ) -> KeyName:
        """Return the Name of the attestation key that was proven to live beside the EK.

        Raises:
            VerificationError: ``credential-activation-spent``, ``credential-activation-failed``,
                ``ak-not-resident``, ``ek-mismatch``.
        """
        opened = self._authority().open(activation, at)
        opened.require_of(ek_sha256=ek_sha256, ak_name=ak_name, subject=subject)
        with self._store.work() as work:
            is_first = work.spend_activation(opened.sha256, opened.ends_at)
        if not is_first:
            raise NotFresh(
                RefusalCode.CREDENTIAL_ACTIVATION_SPENT,
                "this credential activation was tried before; each has one try. Ask for a new "
                "challenge",
                structure="credential activation",
            )
        return opened.prove(answer)

    def _authority(self) -> ActivationAuthority:
        return ActivationAuthority(keys=self._keys())
