"""A provider's endorsement of an AIBOM: who signed, over what, and for how long it holds.

Signatures are checked once, when the document is loaded; each appraisal asks only whether the
endorsement holds at its moment and is by a provider that its policy accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from attestation.algorithms import short_digest
from attestation.errors import InputError, MalformedInput
from attestation.refusals import RefusalCode
from attestation.wire.dsse import (
    ProviderKey,
    read_envelope,
    read_statement,
    require_usable,
)

PREDICATE_TYPES: Final = (
    "https://cyclonedx.org/bom",
    "https://cyclonedx.org/bom/v1.6",
    "https://cyclonedx.org/bom/v1.7",
)
"""What an endorsement may say of an AIBOM (in-toto predicate type for CycloneDX)."""

_MAX_PEM_CHARS: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider that is trusted to endorse AIBOMs.

    Attributes:
        name: As the operator named it.
        key: Its public key.
        not_before: When its certificate begins (aware); None for a bare key.
        not_after: When its certificate ends (aware); None for a bare key.
    """

    name: str
    key: ProviderKey
    not_before: datetime | None = None
    not_after: datetime | None = None

    @property
    def key_sha256(self) -> str:
        """SHA-256 of SubjectPublicKeyInfo, hexadecimal."""
        spki = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One provider whose signature over the statement holds, and between which moments."""

    name: str
    since: datetime | None
    until: datetime | None

    def holds(self, at: datetime) -> bool:
        """Say whether it holds at ``at``."""
        return (self.since is None or self.since <= at) and (self.until is None or at <= self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsement:
    """What became of an endorsement when it was loaded.

    Attributes:
        signers: Trusted providers that signed for this AIBOM; empty if it does not hold.
        code: Why it does not; None if it does.
        reason: The same for people.
    """

    signers: tuple[Signer, ...] = ()
    code: RefusalCode | None = None
    reason: str = ""

    def refusal(self, at: datetime, accepted: Collection[str]) -> tuple[RefusalCode, str] | None:
        """Say why the endorsement does not hold at a moment; None if it does.

        Args:
            at: The moment of judgement (aware).
            accepted: Names of the providers that count; empty for every trusted one.
        """
        if self.code is not None:
            return self.code, self.reason
        counting = [one for one in self.signers if not accepted or one.name in accepted]
        if not counting:
            names = ", ".join(one.name for one in self.signers)
            return (
                RefusalCode.PROVIDER_UNKNOWN,
                f"signed by {names}, which the policy does not list",
            )
        if any(one.holds(at) for one in counting):
            return None
        one = counting[0]
        early = one.since is not None and at < one.since
        moment = one.since if early else one.until
        word = "begins" if early else "ended"
        return (
            RefusalCode.PROVIDER_ENDORSEMENT_EXPIRED,
            f"the endorsement by {one.name} {word} at {moment.isoformat() if moment else '-'}",
        )


def read_provider(name: str, pem: str) -> Provider:
    """Read a provider's public key or certificate.

    Raises:
        MalformedInput: ``key-malformed`` or ``key-too-weak``.
    """
    try:
        if len(pem) > _MAX_PEM_CHARS:
            raise ValueError("too large")  # noqa: TRY301 - one way out
        if "BEGIN CERTIFICATE" in pem:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            return Provider(
                name=name,
                key=require_usable(certificate.public_key()),
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
            )
        return Provider(name=name, key=require_usable(load_pem_public_key(pem.encode())))
    except (ValueError, TypeError) as error:
        raise MalformedInput(
            RefusalCode.KEY_MALFORMED,
            "not a public key or certificate in PEM",
            structure=f"provider {name}",
        ) from error


def judge_endorsement(
    document: object, subject: bytes, providers: Mapping[str, str]
) -> Endorsement:
    """Hold an endorsement against the AIBOM that it came with and the trusted providers.

    Args:
        document: The DSSE envelope as parsed JSON; None without.
        subject: SHA-256 of the AIBOM document.
        providers: PEM texts by name; one that cannot be read endorses nothing.
    """
    if document is None:
        return Endorsement(
            code=RefusalCode.PROVIDER_ENDORSEMENT_MISSING, reason="it came without an endorsement"
        )
    try:
        envelope = read_envelope(document)
        statement = read_statement(envelope.payload)
    except InputError as error:
        return Endorsement(code=error.code, reason=error.reason)
    if statement.predicate_type not in PREDICATE_TYPES:
        return Endorsement(
            code=RefusalCode.PROVIDER_ENDORSEMENT_MALFORMED,
            reason=f"predicateType {statement.predicate_type[:80]!a} is none of "
            + ", ".join(PREDICATE_TYPES),
        )
    known = _readable(providers)
    signed = [one for one in known if envelope.signed_by(one.key)]
    if not signed:
        return _nobody(envelope.hints, known)
    if subject not in statement.subjects:
        return Endorsement(
            code=RefusalCode.PROVIDER_SUBJECT_MISMATCH,
            reason=f"{signed[0].name} signed for {len(statement.subjects)} other artefact(s), not "
            f"for the AIBOM {short_digest(subject)}",
        )
    return Endorsement(
        signers=tuple(
            Signer(
                name=one.name,
                since=_latest(one.not_before, statement.valid_from),
                until=_earliest(one.not_after, statement.valid_until),
            )
            for one in signed
        )
    )


def _readable(providers: Mapping[str, str]) -> list[Provider]:
    found = []
    for name, pem in sorted(providers.items()):
        try:
            found.append(read_provider(name, pem))
        except InputError:
            continue
    return found


def _nobody(hints: tuple[str, ...], known: list[Provider]) -> Endorsement:
    """Explain why no trusted provider's key verifies a signature."""
    named = [one.name for one in known if one.name in hints or one.key_sha256 in hints]
    if named:
        return Endorsement(
            code=RefusalCode.PROVIDER_SIGNATURE_INVALID,
            reason=f"a signature names the key of {named[0]}, and that key did not make it",
        )
    trusted = ", ".join(one.name for one in known) or "nobody"
    return Endorsement(
        code=RefusalCode.PROVIDER_UNKNOWN,
        reason=f"no signature is by a trusted provider's key (trusted: {trusted})",
    )


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one is not None and other is not None else one or other


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one is not None and other is not None else one or other
