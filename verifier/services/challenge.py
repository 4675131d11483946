"""Challenges: a fresh nonce and what to quote. Nothing is remembered: nonces are stateless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from attestation.base64url import base64url_text
from attestation.identity import DeviceId, Nonce
from verifier.appraisal.freshness import ENTROPY_BYTES, NonceAuthority
from verifier.issuance.enrol import enrolment_subject
from verifier.ports import Entropy


class Nonces:
    """The nonce authority of the moment: rebuilt only when the keys were rotated.

    Args:
        keys: Returns the nonce keys, newest first; the same object until a rotation.
        ttl: How long a nonce may be answered.
    """

    def __init__(self, keys: Callable[[], tuple[bytes, ...]], ttl: timedelta) -> None:
        self._keys = keys
        self._ttl = ttl
        self._made_of: tuple[bytes, ...] = ()
        self._authority = NonceAuthority(keys=keys(), ttl=ttl)

    def current(self) -> NonceAuthority:
        """Return the authority over the present keys."""
        keys = self._keys()
        if keys is not self._made_of:
            self._authority = NonceAuthority(keys=keys, ttl=self._ttl)
            self._made_of = keys
        return self._authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A nonce and what to do with it.

    Attributes:
        nonce: The nonce.
        pcr_selection: The PCRs to quote, ``sha256:0,1,…``.
        expires_in_s: Seconds that it may be answered.
    """

    nonce: Nonce = field(repr=False)
    pcr_selection: str
    expires_in_s: float


class Challenges:
    """Makes challenges.

    Args:
        nonces: The nonce authority.
        entropy: Randomness.
        selection: The PCRs to quote, ``sha256:0,1,…``.
        ttl: How long the nonce may be answered.
    """

    def __init__(self, *, nonces: Nonces, entropy: Entropy, selection: str, ttl: timedelta) -> None:
        self._nonces = nonces
        self._entropy = entropy
        self._selection = selection
        self._ttl_s = ttl.total_seconds()

    def for_device(self, device: DeviceId, at: datetime) -> dict[str, object]:
        """Return a challenge that only this device can answer."""
        return self._challenge(device, at)

    def for_enrolment(self, presented: bytes, at: datetime) -> dict[str, object]:
        """Return a challenge for whoever holds the key of this certificate (DER)."""
        return self._challenge(enrolment_subject(presented), at)

    def for_subject(self, subject: str, at: datetime) -> dict[str, object]:
        """Return a challenge for whoever is judged under this subject."""
        return self._challenge(subject, at)

    def enrolment_nonce(self, presented: bytes, at: datetime) -> Challenge:
        """Return the same as :meth:`for_enrolment` as values."""
        return self._issue(enrolment_subject(presented), at)

    def _challenge(self, subject: str, at: datetime) -> dict[str, object]:
        challenge = self._issue(subject, at)
        return {
            "nonce": base64url_text(challenge.nonce),
            "pcr_selection": challenge.pcr_selection,
            "expires_in_s": challenge.expires_in_s,
        }

    def _issue(self, subject: str, at: datetime) -> Challenge:
        nonce = self._nonces.current().issue(subject, at, self._entropy.take(ENTROPY_BYTES))
        return Challenge(nonce=nonce, pcr_selection=self._selection, expires_in_s=self._ttl_s)
