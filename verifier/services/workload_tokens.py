"""Workload identity tokens over keys of certificates: a token says what its certificate says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509

from attestation.agent_certificate import AgentClaims, read_agent_claims
from attestation.base64url import base64url_text
from attestation.refusals import RefusalCode
from attestation.wire.jwk import PublicKey
from attestation.wire.wit import TOKEN_TYPE, StatusEntry, WorkloadIdentity, wit_claims
from verifier.errors import NotAuthorised
from verifier.ports import Entropy
from verifier.ports.credentials import CredentialKind, StoredCertificate

TOKEN_ID_BYTES: Final = 16
"""Random bytes of ``jti``; it names a token and stops no replay (WIT-SVID)."""


class TokenSigner(Protocol):
    """Signs tokens of other types than results, with the same keys."""

    def sign_token(self, claims: Mapping[str, object], token_type: str) -> str:
        """Return ``claims`` as a signed JWT (ES256) whose header says ``typ``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadToken:
    """A token and its end.

    Attributes:
        token: JWT, ``typ`` ``wit+jwt``.
        expires_at: When it ends (aware, whole seconds).
    """

    token: str
    expires_at: datetime

    def document(self) -> dict[str, object]:
        """Return what an answer says of it."""
        end = self.expires_at.isoformat().replace("+00:00", "Z")
        return {"token": self.token, "token_expires_at": end}


class WorkloadTokens:
    """Makes tokens.

    Args:
        signer: Signs them; its keys are in the published key set.
        entropy: For their ids.
        trust_domain: Whose tokens they are.
        lifetime: How long they last; never longer than the certificate.
        status: Returns where the revocation of a certificate's tokens is told, by the
            certificate's number; None where it is told nowhere.
    """

    def __init__(
        self,
        *,
        signer: TokenSigner,
        entropy: Entropy,
        trust_domain: str,
        lifetime: timedelta,
        status: Callable[[int], StatusEntry | None],
    ) -> None:
        self._signer = signer
        self._entropy = entropy
        self._issuer = f"spiffe://{trust_domain}"
        self._lifetime = lifetime
        self._status = status

    def issue(self, stored: StoredCertificate, at: datetime) -> WorkloadToken:
        """Make a token over the key of a certificate.

        Args:
            stored: A certificate of ours.
            at: Now (aware).

        Raises:
            NotAuthorised: ``certificate-revoked``, ``certificate-expired``, also before it begins.
            InputError: If what the certificate says of its agent cannot be read.
        """
        one = stored.certificate
        if stored.revoked_at is not None:
            raise NotAuthorised(
                RefusalCode.CERTIFICATE_REVOKED,
                f"the certificate was revoked ({stored.revoked_reason}); there is no token for it",
            )
        if not one.not_before <= at < one.not_after:
            raise NotAuthorised(
                RefusalCode.CERTIFICATE_EXPIRED,
                f"the certificate lasts from {one.not_before.isoformat()} to "
                f"{one.not_after.isoformat()}; there is no token for it",
            )
        certificate = x509.load_der_x509_certificate(one.der)
        key = certificate.public_key()
        if not isinstance(key, PublicKey):
            raise TypeError("a certificate of ours holds a key that tokens cannot name")
        is_agent = one.kind is CredentialKind.AGENT
        told = read_agent_claims(certificate) if is_agent else AgentClaims()
        begins = at.replace(microsecond=0)
        expires_at = min(begins + self._lifetime, one.not_after)
        claims = wit_claims(
            WorkloadIdentity(
                subject=one.holder,
                key=key,
                expires_at=expires_at,
                issued_at=begins,
                issuer=self._issuer,
                token_id=base64url_text(self._entropy.take(TOKEN_ID_BYTES)),
                status=self._status(stored.number),
                owner=told.owner,
                capabilities=told.capabilities,
                locator=told.locator,
                validation_methods=told.validation_methods,
            )
        )
        return WorkloadToken(
            token=self._signer.sign_token(claims, TOKEN_TYPE), expires_at=expires_at
        )
