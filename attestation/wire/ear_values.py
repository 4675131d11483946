"""Attestation results as a relying party reads them: values in no particular EAR dialect.

Everything here is offered by :mod:`attestation.wire.ear`; import it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from attestation.result import TrustTier, TrustVector


class EarProfile(StrEnum):
    """The three dialects by their ``eat_profile``."""

    VERAISON = "tag:github.com,2023:veraison/ear"
    DRAFT_02 = "tag:ietf.org,2025-07:ear"
    DRAFT_03 = "tag:ietf.org,2026:rats/ear#03"

    @property
    def word(self) -> str:
        """The dialect in a word, as settings have it: ``draft-03``."""
        return self.name.lower().replace("_", "-")


EAR_DIALECTS: Final = MappingProxyType({profile.word: profile for profile in EarProfile})
"""The dialects by their word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierIdentity:
    """Who made the result (EAR ``ear_verifier_id``).

    Attributes:
        developer: Who develops the verifier, as text or URI.
        build: Its exact build.
    """

    developer: str
    build: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EarAppraisal:
    """One submodule's appraisal.

    Attributes:
        status: Its tier.
        vector: Its trustworthiness vector; all zero if the EAR left it out.
        policy_ids: The appraisal policies in order of application; may be empty.
        nonce: The evidence's nonce as b64url text; None if the EAR does not say.
        reasons: Our extension: why it is not affirming.
    """

    status: TrustTier
    vector: TrustVector
    policy_ids: tuple[str, ...]
    nonce: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """An EAR in no particular dialect.

    Attributes:
        profile: The dialect it was written in.
        issued_at: ``iat``.
        expires_at: ``exp``; None if it has none.
        verifier: Who made it.
        status: The global status, or the worst submodule's where the dialect has none.
        submods: Appraisals by label; ours are labelled by device id.
        subject: ``sub``: in ours the device id.
        token_id: ``jti``.
        key_id: ``cnf.kid`` (RFC 7800, 3.4): in ours the Name of the attestation key that signed
            the evidence, as :func:`attestation.wire.ear.key_id_text` writes it; None if the EAR
            does not say.
        signed_by: ``kid`` of the key that signed it; None while the signature is unproven.
    """

    profile: EarProfile
    issued_at: datetime
    expires_at: datetime | None
    verifier: VerifierIdentity
    status: TrustTier
    submods: Mapping[str, EarAppraisal]
    subject: str | None = None
    token_id: str | None = None
    key_id: str | None = None
    signed_by: str | None = None
