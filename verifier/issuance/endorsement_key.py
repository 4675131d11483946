"""A device by its endorsement key: who vouches for the key, and what the device is called by it.

A listed key is the owner's own word about this very TPM, so that a fault of its certificate is no
reason against it where the list alone is enough; where the certificate is needed too, the fault is
told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.ek.certificate import parse_maker_certificate
from attestation.ek.forms import read_certificate
from attestation.ek.roca import has_roca_fingerprint
from attestation.errors import AttestationError, IdentityMismatch, UntrustedEndorsement
from attestation.identity import DeviceId, KeyName, device_id
from attestation.refusals import RefusalCode
from attestation.tpm.public import TpmPublic, parse_public
from verifier.endorsement.ek import judge_ek
from verifier.issuance.credential_activation import EkKey
from verifier.issuance.initial_trust import TrustName
from verifier.issuance.profiles import NO_EXPIRY
from verifier.issuance.trust_sources import TrustSources

EK_TRUST: Final = frozenset({TrustName.TPM_EK, TrustName.EK_ALLOW_LIST})
"""Names that rest on an endorsement key."""

_STRUCTURE: Final = "endorsement key"
_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID_DIGITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEk:
    """An endorsement key that somebody vouches for; not yet proven to be at the other end.

    Attributes:
        public: The key.
        sha256: SHA-256 of its SubjectPublicKeyInfo, DER.
        held: By which names it is trusted.
        anchor_sha256: SHA-256 of the TPM maker's root; the key's own digest if it is only listed.
        endorsed_from: Start of the endorsement (aware).
        endorsed_until: End of it (aware).
        refusal: Why its certificate is not believed, though the key is listed; None if it is.
        manufacturer: TCG vendor id of the TPM's maker; empty where no certificate is believed.
    """

    public: TpmPublic
    sha256: bytes
    held: frozenset[TrustName]
    anchor_sha256: bytes
    endorsed_from: datetime
    endorsed_until: datetime
    refusal: AttestationError | None = None
    manufacturer: str = ""

    @property
    def key(self) -> EkKey:
        """The key, for wrapping a credential."""
        return self.public.key

    @property
    def device(self) -> DeviceId:
        """What a device without IDevID is called."""
        return ek_device_id(self.sha256)


def ek_device_id(ek_sha256: bytes) -> DeviceId:
    """Return the id of a device that has nothing but an endorsement key."""
    return device_id(f"ek-{ek_sha256.hex()[:_ID_DIGITS]}")


def ek_subject(ek_sha256: bytes, ak_name: KeyName) -> str:
    """Return the subject to issue a nonce to where there is no TLS client certificate."""
    return f"enrol-ek/{ek_sha256.hex()}/{ak_name.hex()}"


def judge_endorsement_key(
    public_area: bytes,
    chain: Collection[bytes],
    *,
    wanted: Collection[TrustName],
    sources: TrustSources,
    at: datetime,
) -> JudgedEk:
    """Judge who vouches for an endorsement key.

    Args:
        public_area: TPMT_PUBLIC of the EK.
        chain: DER certificates, leaf first; the leaf may stand as it does in NV.
        wanted: Names that the policy rests on.
        sources: What to judge by.
        at: The moment of judgement (aware).

    Raises:
        UntrustedEndorsement: ``ek-key-weak``, the codes of :func:`verifier.endorsement.ek
            .judge_ek`, or ``ek-not-listed``.
        IdentityMismatch: ``ek-mismatch`` if the certificate is another key's.
        InputError: If something is malformed.
    """
    public = parse_public(public_area)
    _require_no_roca(public)
    digest = hashlib.sha256(public.spki_der).digest()
    listed = TrustName.EK_ALLOW_LIST in wanted and digest in sources.listed_eks
    by_list = JudgedEk(
        public=public,
        sha256=digest,
        held=frozenset({TrustName.EK_ALLOW_LIST}),
        anchor_sha256=digest,
        endorsed_from=_ALWAYS,
        endorsed_until=NO_EXPIRY,
    )
    if chain and TrustName.TPM_EK in wanted:
        try:
            return _by_certificate(public, digest, tuple(chain), sources, at, listed=listed)
        except AttestationError as error:
            if not listed:
                raise
            return replace(by_list, refusal=error)
    if not listed:
        raise UntrustedEndorsement(
            RefusalCode.EK_NOT_LISTED
            if TrustName.EK_ALLOW_LIST in wanted
            else RefusalCode.EK_CERTIFICATE_UNTRUSTED,
            f"the endorsement key with digest {digest.hex()} came without a certificate that "
            "counts and is on no allow list",
            structure=_STRUCTURE,
        )
    return by_list


def _by_certificate(
    public: TpmPublic,
    digest: bytes,
    chain: tuple[bytes, ...],
    sources: TrustSources,
    at: datetime,
    *,
    listed: bool,
) -> JudgedEk:
    certificate = read_certificate(chain[0], from_nv=True)
    above = [parse_maker_certificate(der) for der in chain[1:]]
    if certificate.public_key.spki_der != public.spki_der:
        raise IdentityMismatch(
            RefusalCode.EK_MISMATCH,
            "the EK certificate is for another key than the EK's public area",
            structure=_STRUCTURE,
        )
    if sources.ek_roots is None:
        raise UntrustedEndorsement(
            RefusalCode.EK_CERTIFICATE_UNTRUSTED,
            "no TPM maker is trusted by this policy",
            structure=_STRUCTURE,
        )
    endorsed = judge_ek(certificate, above, sources.ek_roots, at, rules=sources.ek_rules)
    until = endorsed.not_after
    if until < at:  # A leaf past its end was accepted: the chain above it must hold.
        until = min(one.not_after for one in endorsed.path[1:])
    also = {TrustName.EK_ALLOW_LIST} if listed else set()
    return JudgedEk(
        public=public,
        sha256=digest,
        held=frozenset({TrustName.TPM_EK, *also}),
        anchor_sha256=endorsed.anchor_sha256,
        endorsed_from=endorsed.not_before,
        endorsed_until=until,
        manufacturer=endorsed.maker.manufacturer,
    )


def _require_no_roca(public: TpmPublic) -> None:
    key = public.key
    if isinstance(key, rsa.RSAPublicKey) and has_roca_fingerprint(key.public_numbers().n):
        raise UntrustedEndorsement(
            RefusalCode.EK_KEY_WEAK,
            "the endorsement key has the ROCA fingerprint (CVE-2017-15361)",
            structure=_STRUCTURE,
        )
