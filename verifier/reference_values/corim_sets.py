"""Reference sets from a CoRIM, and whose signature it must bear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.errors import MalformedInput, SignatureInvalid, UntrustedEndorsement
from attestation.refusals import RefusalCode
from attestation.wire.comid import Comid
from attestation.wire.comid import ReferenceValues as Values
from attestation.wire.corim import Corim, SignedCorim, Validity, read_payload
from attestation.wire.cose import CoseKey, verify_sign1
from verifier.reference_values.model import ManifestTag, ReferenceSet

_STRUCTURE: Final = "CoRIM"
_MAX_SIGNER_CHARS: Final = 16 * 1024
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Whose CoRIMs are believed.

    Attributes:
        name: For people.
        key: The public key.
    """

    name: str
    key: CoseKey


def load_signer(pem: str, name: str, at: datetime) -> Signer:
    """Read a signer's public key, or a certificate whose key it is.

    A certificate is taken as it is, pinned by whoever put it here; only its time is looked at.

    Args:
        pem: PEM text of one public key or certificate.
        name: For people.
        at: Now (aware).

    Raises:
        MalformedInput: ``key-malformed`` if it is neither, or of a kind that we cannot check.
        UntrustedEndorsement: ``certificate-expired`` if the certificate is not valid now.
    """
    if len(pem) > _MAX_SIGNER_CHARS:
        raise MalformedInput(RefusalCode.KEY_MALFORMED, f"signer {name}: more than one key")
    key: object
    in_time = True
    try:
        if _CERTIFICATE in pem:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            key = certificate.public_key()
            in_time = certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
        else:
            key = load_pem_public_key(pem.encode())
    except Exception as error:  # whatever the library raises on foreign bytes
        raise MalformedInput(
            RefusalCode.KEY_MALFORMED, f"signer {name}: neither a public key nor a certificate"
        ) from error
    if not in_time:
        raise UntrustedEndorsement(
            RefusalCode.CERTIFICATE_EXPIRED, f"signer {name}: the certificate is not valid now"
        )
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise MalformedInput(
            RefusalCode.KEY_MALFORMED, f"signer {name}: wanted an EC, Ed25519 or RSA key"
        )
    return Signer(name=name, key=key)


def open_signed(
    signed: SignedCorim, signers: Iterable[Signer], at: datetime
) -> tuple[Corim, Signer]:
    """Check a CoRIM's signature and return what it holds and who signed it.

    Args:
        signed: As read; what it says of its signer is not believed.
        signers: Whose CoRIMs are believed.
        at: Now (aware).

    Raises:
        SignatureInvalid: ``corim-signer-unknown`` if none of the signers signed it.
        UntrustedEndorsement: ``reference-not-in-force`` if the signature holds at another time.
        InputError: If it is malformed within.
    """
    why: list[str] = []
    for signer in signers:
        try:
            verify_sign1(signed.message, signer.key)
        except SignatureInvalid as error:
            why.append(f"{signer.name}: {error.reason}")
            continue
        _require_now(signed.validity, at, "the signature")
        return read_payload(signed.message), signer
    raise SignatureInvalid(
        RefusalCode.CORIM_SIGNER_UNKNOWN,
        f"it says that {signed.signer!r} signed it, but no trusted signer did"
        + (f" ({'; '.join(why)})" if why else ": none is trusted here"),
        structure=_STRUCTURE,
    )


def sets_of(
    corim: Corim,
    signer: Signer | None,
    at: datetime,
    profiles: frozenset[str] = frozenset(),
) -> tuple[ReferenceSet, ...]:
    """Make reference sets of a CoRIM, one for each CoMID and kind of machine.

    Args:
        corim: What it holds.
        signer: Who signed it, as proven; None if nobody did.
        at: Now (aware): the sets' time of making.
        profiles: Profiles whose meaning the operator knows to be the plain one.

    Returns:
        Sets of version 1. What a trusted signer signed needs no review; what nobody signed
        waits for one.

    Raises:
        MalformedInput: ``corim-malformed`` if it has an unknown profile, or no PCR value at all.
        UntrustedEndorsement: ``reference-not-in-force`` if it has ended already.
    """
    if corim.profile and corim.profile not in profiles:
        raise _malformed(
            f"has the profile {corim.profile!r}, which may change what its values mean. If you "
            "know that it does not, name it with --profile"
        )
    if corim.validity.not_after is not None and corim.validity.not_after <= at:
        _require_now(corim.validity, at, "it")
    found: list[ReferenceSet] = []
    shared = _shared_words(corim)
    for comid in corim.comids:
        for values in comid.values:
            taken = {one.name for one in found}
            name = values.environment
            if name in shared and values.class_id:
                name = f"{name} {values.class_id}"
            if name in taken:
                name = f"{name} {comid.id}"
            if name in taken:
                raise _malformed(f"describes {name!r} more than once")
            found.append(_set(corim, comid, values, signer, name, at))
    if not found:
        more = f" ({'; '.join(corim.notices)})" if corim.notices else ""
        raise _malformed(f"holds no PCR reference values that can be used{more}")
    return tuple(found)


def _set(
    corim: Corim,
    comid: Comid,
    values: Values,
    signer: Signer | None,
    name: str,
    at: datetime,
) -> ReferenceSet:
    who = signer.name if signer else ""
    measured = frozenset(index for pcrs in values.pcrs.values() for index in pcrs)
    return ReferenceSet(
        name=name,
        version=1,
        created=at,
        pcrs=values.pcrs,
        description=f"CoRIM {corim.id}, tag {comid.id} version {comid.version}, signed by "
        + (who or "nobody"),
        valid_from=corim.validity.not_before,
        valid_until=corim.validity.not_after,
        to_review=frozenset() if signer else measured,
        manifest=ManifestTag(signer=who, tag=comid.id, version=comid.version),
    )


def _shared_words(corim: Corim) -> frozenset[str]:
    """Return the words that stand for more than one class of machine in this CoRIM."""
    classes: dict[str, set[str]] = {}
    for comid in corim.comids:
        for values in comid.values:
            classes.setdefault(values.environment, set()).add(values.class_id)
    return frozenset(words for words, ids in classes.items() if len(ids) > 1)


def _require_now(validity: Validity, at: datetime, what: str) -> None:
    begin, end = validity.not_before, validity.not_after
    if begin is not None and at < begin:
        raise _not_now(f"{what} holds only from {begin:%Y-%m-%d %H:%M} UTC on")
    if end is not None and at >= end:
        raise _not_now(f"{what} held until {end:%Y-%m-%d %H:%M} UTC. Ask the maker for a newer one")


def _not_now(reason: str) -> UntrustedEndorsement:
    return UntrustedEndorsement(RefusalCode.REFERENCE_NOT_IN_FORCE, reason, structure=_STRUCTURE)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CORIM_MALFORMED, reason, structure=_STRUCTURE)
