"""Trust anchors: the manufacturers whose certificates are believed, and the chains below them.

Path building and signatures are cryptography's ``x509.verification`` at an explicit time; profiles
(IEEE 802.1AR 8, TCG Keys for Device Identity and Attestation 8) and key strength are checked here.
Refuses an empty set of anchors, certificates fetched from anywhere, and names in place of keys:
only presented certificates and configured anchors take part (no AIA, no network).

IDevID certificates carry neither a DNS name nor a web key usage, so the web's leaf rules do not
fit; leaf rules are our profiles, authority rules are the library's web PKI rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from attestation.certificates import check_iak_profile, check_idevid_profile, parse_certificate
from attestation.ek.roca import has_roca_fingerprint
from attestation.errors import LimitExceeded, MalformedInput, UntrustedEndorsement
from attestation.limits import MAX_CHAIN_LENGTH
from attestation.refusals import RefusalCode
from verifier.endorsement.revocation import (
    RevocationList,
    certificate_id,
    read_revocation_lists,
)

MAX_ANCHORS: Final = 512
"""The TPM makers' roots and their intermediates together are below 200."""

_ISSUERS_KEPT: Final = 64
"""Certificates above leaves that are remembered as read."""

_STRUCTURE: Final = "certificate chain"
_MIN_RSA_BITS: Final = 2048
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

_LEAF_POLICY: Final = ExtensionPolicy.permit_all()
_AUTHORITY_POLICY: Final = ExtensionPolicy.webpki_defaults_ca()


class ChainProfile(StrEnum):
    """What the leaf of a chain must be."""

    IDEVID = "IDevID"
    """A device's manufacturer-given identity (IEEE 802.1AR)."""
    IAK = "IAK"
    """A device's attestation key (TCG, EKU 2.23.133.8.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsement:
    """A chain that was trusted at one moment.

    Attributes:
        leaf: The device's certificate.
        anchor_sha256: SHA-256 of the anchor's DER.
        not_before: When the youngest certificate of the chain began.
        not_after: When the first certificate of the chain ends.
        certificate_ids: What a revocation list calls the certificates below the anchor.
    """

    leaf: x509.Certificate
    anchor_sha256: bytes
    not_before: datetime
    not_after: datetime
    certificate_ids: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchors:
    """The manufacturers' roots that are believed.

    Attributes:
        certificates: The anchors; empty only where ``endorsers`` is not.
        endorsers: SHA-256 of what else may have endorsed a device at enrolment: TPM makers' roots,
            endorsement keys that the owner has listed. No chain is judged by them here.
        revocations: Lists that the anchors vouch for; see :meth:`with_revocations`.
        fingerprints: SHA-256 of each anchor's DER.
        revoked: What the lists name, as :func:`verifier.endorsement.revocation.certificate_id`.
        store: The anchors as cryptography takes them; None if there is none.

    Raises:
        MalformedInput: If there is neither anchor nor endorser.
        LimitExceeded: If there are more than ``MAX_ANCHORS``.
    """

    certificates: tuple[x509.Certificate, ...]
    endorsers: frozenset[bytes] = frozenset()
    revocations: tuple[RevocationList, ...] = ()
    fingerprints: frozenset[bytes] = field(init=False)
    revoked: frozenset[bytes] = field(init=False, repr=False, compare=False)
    store: Store | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.certificates and not self.endorsers:
            raise MalformedInput(
                RefusalCode.CERTIFICATE_MALFORMED,
                "no trust anchor is configured; without one no device can be believed. "
                "Give at least one manufacturer's root certificate",
                structure="trust anchors",
            )
        if len(self.certificates) > MAX_ANCHORS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{len(self.certificates)} trust anchors, at most {MAX_ANCHORS} are taken",
                structure="trust anchors",
            )
        prints = frozenset(_fingerprint(anchor) for anchor in self.certificates)
        object.__setattr__(self, "fingerprints", prints)
        revoked = frozenset[bytes]().union(*(one.revoked for one in self.revocations))
        object.__setattr__(self, "revoked", revoked)
        object.__setattr__(self, "store", _store(self.certificates))

    def __contains__(self, anchor_sha256: object) -> bool:
        return anchor_sha256 in self.fingerprints or anchor_sha256 in self.endorsers

    @classmethod
    def from_pem(cls, *bundles: bytes, endorsers: frozenset[bytes] = frozenset()) -> TrustAnchors:
        """Read anchors from PEM texts, each with one certificate or more.

        Raises:
            MalformedInput: If a text holds no certificate or a malformed one, or there is neither
                a text nor an endorser.
        """
        found: dict[bytes, x509.Certificate] = {}
        for bundle in bundles:
            try:
                certificates = x509.load_pem_x509_certificates(bundle)
            except ValueError as error:
                raise MalformedInput(
                    RefusalCode.CERTIFICATE_MALFORMED,
                    f"not a PEM text with certificates: {error}",
                    structure="trust anchors",
                ) from error
            found.update({_fingerprint(one): one for one in certificates})
        return cls(certificates=tuple(found.values()), endorsers=endorsers)

    def with_revocations(self, files: Sequence[bytes]) -> TrustAnchors:
        """Return the same anchors with the lists of these files.

        Raises:
            InputError: As :func:`verifier.endorsement.revocation.read_revocation_lists`.
            UntrustedEndorsement: ``certificate-untrusted`` for a list that no anchor vouches for.
        """
        return replace(self, revocations=read_revocation_lists(files, self.certificates))

    def validate(self, chain: Sequence[bytes], at: datetime, profile: ChainProfile) -> Endorsement:
        """Prove that a chain leads from a device's certificate to one of the anchors at ``at``.

        Args:
            chain: DER certificates, leaf first; the anchor may be left out.
            at: The moment of judgement (aware).
            profile: What the leaf must be.

        Returns:
            The endorsement, with its anchor and the time it lasts.

        Raises:
            InputError: If the chain is empty, too long, or a certificate is malformed.
            UntrustedEndorsement: ``certificate-untrusted`` when it leads to no anchor at any time,
                ``certificate-expired`` or ``certificate-not-yet-valid`` when only the time is
                wrong, ``certificate-revoked``, ``certificate-profile-wrong``, ``key-too-weak``.
        """
        if not 1 <= len(chain) <= MAX_CHAIN_LENGTH:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{len(chain)} certificates were presented, wanted 1 to {MAX_CHAIN_LENGTH}",
                structure=_STRUCTURE,
            )
        parsed = (parse_certificate(chain[0]), *(_issuer(der) for der in chain[1:]))
        if self.store is None:
            raise UntrustedEndorsement(
                RefusalCode.CERTIFICATE_UNTRUSTED,
                "no manufacturer is among the trust anchors",
                structure=f"{profile} chain",
            )
        path = self._path(self.store, parsed, at, profile)
        leaf = path[0]
        ids = frozenset(certificate_id(one.issuer, one.serial_number) for one in path[:-1])
        require_not_revoked(ids, self, profile)
        _require_strong_key(leaf, profile)
        if profile is ChainProfile.IDEVID:
            check_idevid_profile(leaf)
        else:
            check_iak_profile(leaf)
        return Endorsement(
            leaf=leaf,
            anchor_sha256=_fingerprint(path[-1]),
            not_before=max(one.not_valid_before_utc for one in path),
            not_after=min(one.not_valid_after_utc for one in path),
            certificate_ids=ids,
        )

    def _path(
        self, store: Store, chain: tuple[x509.Certificate, ...], at: datetime, profile: ChainProfile
    ) -> Sequence[x509.Certificate]:
        """Return leaf to anchor, or say precisely why there is no path."""
        try:
            return self._verify(store, chain, at)
        except VerificationError as error:
            other = self._path_at_another_time(store, chain)
            if other is None:
                raise UntrustedEndorsement(
                    RefusalCode.CERTIFICATE_UNTRUSTED,
                    f"the {profile} certificate of {chain[0].issuer.rfc4514_string()[:120]!r} does "
                    "not lead to a trusted manufacturer; add the manufacturer's root to the trust "
                    "anchors if it is to be trusted",
                    structure=f"{profile} chain",
                ) from error
            raise _out_of_time(other, at, profile) from error

    def _path_at_another_time(
        self, store: Store, chain: tuple[x509.Certificate, ...]
    ) -> Sequence[x509.Certificate] | None:
        """Return the path that would hold once all its certificates had begun."""
        issuers = {one.issuer for one in chain}
        anchors = [one for one in self.certificates if one.subject in issuers]
        moment = max(one.not_valid_before_utc for one in (*chain, *anchors))
        try:
            return self._verify(store, chain, moment)
        except VerificationError:
            return None

    def _verify(
        self, store: Store, chain: tuple[x509.Certificate, ...], at: datetime
    ) -> Sequence[x509.Certificate]:
        verifier = (
            PolicyBuilder()
            .store(store)
            .time(at)
            .max_chain_depth(MAX_CHAIN_LENGTH)
            .extension_policies(ca_policy=_AUTHORITY_POLICY, ee_policy=_LEAF_POLICY)
            .build_client_verifier()
        )
        return verifier.verify(chain[0], list(chain[1:])).chain


@lru_cache(maxsize=_ISSUERS_KEPT)
def _issuer(der: bytes) -> x509.Certificate:
    """Read a certificate above the leaf; the devices of a maker show the same ones."""
    return parse_certificate(der)


def _store(certificates: Sequence[x509.Certificate]) -> Store | None:
    return Store(list(certificates)) if certificates else None


def require_not_revoked(
    certificate_ids: frozenset[bytes], anchors: TrustAnchors, subject: str
) -> None:
    """Check that none of an endorsement's certificates is on a revocation list.

    Args:
        certificate_ids: From :class:`Endorsement`, or as remembered from it.
        anchors: The manufacturers trusted now, with their lists.
        subject: Whose certificates they are, for the message.

    Raises:
        UntrustedEndorsement: ``certificate-revoked``.
    """
    if not certificate_ids.isdisjoint(anchors.revoked):
        raise UntrustedEndorsement(
            RefusalCode.CERTIFICATE_REVOKED,
            f"a certificate of the {subject} chain was revoked by its issuer; the unit must get "
            "new certificates or be replaced",
            structure=f"{subject} chain",
        )


def _out_of_time(
    path: Sequence[x509.Certificate], at: datetime, profile: ChainProfile
) -> UntrustedEndorsement:
    for one in path:
        name = one.subject.rfc4514_string()[:120]
        if at > one.not_valid_after_utc:
            return UntrustedEndorsement(
                RefusalCode.CERTIFICATE_EXPIRED,
                f"certificate {name!r} ended on {one.not_valid_after_utc.isoformat()}",
                structure=f"{profile} chain",
            )
        if at < one.not_valid_before_utc:
            return UntrustedEndorsement(
                RefusalCode.CERTIFICATE_NOT_YET_VALID,
                f"certificate {name!r} begins on {one.not_valid_before_utc.isoformat()}; "
                "check the verifier's clock",
                structure=f"{profile} chain",
            )
    return UntrustedEndorsement(
        RefusalCode.CERTIFICATE_UNTRUSTED,
        "no path to a trusted manufacturer holds at this moment",
        structure=f"{profile} chain",
    )


def _require_strong_key(leaf: x509.Certificate, profile: ChainProfile) -> None:
    """Refuse a device key below P-256 or RSA-2048 (the library checks authorities' keys only)."""
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        if not has_roca_fingerprint(key.public_numbers().n):
            return
        raise UntrustedEndorsement(
            RefusalCode.KEY_TOO_WEAK,
            "the device's key has the ROCA fingerprint (CVE-2017-15361): its private half can be "
            "computed; update the TPM's firmware and make new keys",
            structure=f"{profile} certificate",
        )
    raise UntrustedEndorsement(
        RefusalCode.KEY_TOO_WEAK,
        f"the device's key is {_describe(key)}; wanted P-256, P-384, P-521 or RSA of at least "
        f"{_MIN_RSA_BITS} bits",
        structure=f"{profile} certificate",
    )


def _describe(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"on curve {key.curve.name}"
    return f"a {type(key).__name__}"


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
