"""Cases of kind ``ek-certificate`` and ``activation``: N11, N12, N40 to N43."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ObjectIdentifier

from attestation.ek.roca import GENERATOR, PRIMES
from attestation.reader import pack
from tests.conformance.generate.device import (
    ALWAYS,
    EK_USAGE,
    MADE,
    NOW,
    FixedMaker,
    private_key,
    usage,
)
from tests.conformance.generate.model import Json, blob, case

SECOND: Final = timedelta(seconds=1)
_MANUFACTURER: Final = ObjectIdentifier("2.23.133.2.1")
_MODEL: Final = ObjectIdentifier("2.23.133.2.2")
_VERSION: Final = ObjectIdentifier("2.23.133.2.3")
_INFINEON: Final = "id:49465800"
_OLD_FIRMWARE: Final = (7 << 48) | (61 << 32)
_NEW_FIRMWARE: Final = (7 << 48) | (85 << 32)
_FETCH_FROM: Final = "http://169.254.169.254/latest/authority.cer"
_FAILED: Final = "credential-activation-failed"
_SPENT: Final = "credential-activation-spent"
_MALFORMED: Final = "ek-certificate-malformed"
_HELD_AGAINST: Final = (
    "An NV index holds whatever its owner wrote: every length is held against what is there."
)


def maker(key: str = "") -> FixedMaker:
    """A TPM maker's root."""
    return FixedMaker("Example TPM Maker", key=key)


def certificate(
    by: FixedMaker | None = None,
    *,
    key: object = None,
    ca: bool = False,
    purposes: tuple[ObjectIdentifier, ...] = (EK_USAGE,),
    allows: str = "key_agreement",
    named: bool = True,
    start: datetime = MADE,
    until: datetime = ALWAYS,
    fetch: str = "",
) -> bytes:
    """An EK certificate by the TCG's profile, or one mark away from it."""
    names = [
        x509.NameAttribute(_MANUFACTURER, _INFINEON),
        x509.NameAttribute(_MODEL, "SLB9670"),
        x509.NameAttribute(_VERSION, "id:0755"),
    ]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        (usage(allows), True),
    ]
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    if named:
        directory = x509.DirectoryName(x509.Name(names))
        extensions.append((x509.SubjectAlternativeName([directory]), True))
    if fetch:
        place = x509.UniformResourceIdentifier(fetch)
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)
        extensions.append((x509.AuthorityInformationAccess([access]), False))
    made = (by or maker()).certify(
        x509.Name([]),
        key or private_key("ek").public_key(),
        start=start,
        until=until,
        extensions=extensions,
    )
    return made.public_bytes(Encoding.DER)


def weak_modulus(bits: int = 2048) -> int:
    """A number with the ROCA fingerprint: a power of 65537 modulo each of the first primes."""
    product = 1
    for prime in PRIMES:
        product *= prime
    residue = pow(GENERATOR, 0x1234567, product)
    return residue + product * ((3 << (bits - 2)) // product)


def given(der: bytes, **more: Any) -> Json:
    """A certificate beside what a verifier believes."""
    return {
        "certificate": blob(der),
        "roots": [blob(maker().root_der)],
        "intermediates": [],
        "at": NOW.isoformat(),
        **more,
    }


def refused(
    name: str,
    anchors: str,
    title: str,
    code: str,
    why: str,
    der: bytes,
    *,
    verdict: str = "refused",
    importance: str = "critical",
    **more: Any,
) -> Json:
    """A certificate that endorses nothing."""
    return case(
        f"ek-{name}",
        anchors,
        title,
        kind="ek-certificate",
        given=given(der, **more),
        verdict=verdict,
        code=code,
        why=why,
        importance=importance,
    )


def accepted(name: str, anchors: str, title: str, der: bytes, **more: Any) -> Json:
    """A certificate that endorses a TPM."""
    return case(
        f"ek-{name}",
        anchors,
        title,
        kind="ek-certificate",
        given=given(der, **more),
        verdict="accepted",
        why="The neighbour of the certificates that are refused: the field has such ones.",
        importance="critical",
    )


def cases() -> list[Json]:
    """Every case of this file."""
    honest = "An EK certificate by the profile is believed"
    return [
        accepted("honest", "N40 N41 N42 N43", honest, certificate()),
        *_nv_indices(),
        *_forms(),
        *_profiles(),
        *_signatures(),
        *_keys(),
        *_moments(),
        *_bindings(),
        *_tries(),
    ]


def _nv_indices() -> list[Json]:
    der = certificate()
    header = b"\x10\x01\x00"
    full = b"\x10\x02" + der
    return [
        accepted(
            "nv-header",
            "N40",
            "An EK certificate behind an NV header, padded, is believed",
            header + pack(">H", len(full)) + full + b"\xff" * 64,
            from_nv=True,
        ),
        refused(
            "nv-header-too-long",
            "N40",
            "An NV header that announces more bytes than there are is malformed",
            "truncated",
            _HELD_AGAINST,
            header + pack(">H", len(full) + 1) + full,
            verdict="malformed",
            from_nv=True,
        ),
        refused(
            "bytes-behind",
            "N40",
            "Bytes that are no padding behind a certificate are malformed",
            _MALFORMED,
            _HELD_AGAINST,
            der + b"\x01\x02",
            verdict="malformed",
            from_nv=True,
        ),
    ]


def _forms() -> list[Json]:
    der = certificate()
    fetched = certificate(FixedMaker("An Issuer Between"), fetch=_FETCH_FROM)
    return [
        refused(
            "length-of-four-gigabytes",
            "N40",
            "A certificate that announces four gigabytes is malformed",
            _MALFORMED,
            _HELD_AGAINST,
            b"\x30\x84\xff\xff\xff\xff" + der[4:],
            verdict="malformed",
        ),
        refused(
            "larger-than-any",
            "N40",
            "A certificate of sixteen kilobytes and more is refused by its size alone",
            "too-large",
            _HELD_AGAINST,
            der + bytes(16 * 1024),
            verdict="malformed",
            importance="high",
        ),
        refused(
            "issuer-to-be-fetched",
            "N40",
            "A certificate whose issuer would have to be fetched from its own URL is refused",
            "ek-certificate-untrusted",
            "The URL is the attacker's: who follows it visits what he names, and reads as much as "
            "he sends (server-side request forgery).",
            fetched,
        ),
    ]


def _profiles() -> list[Json]:
    wrong = "ek-certificate-profile-wrong"
    why = "A signature by a TPM maker is not enough: makers also sign other things."
    other = (x509.ExtendedKeyUsageOID.CLIENT_AUTH,)
    return [
        refused(
            "without-its-usage",
            "N41",
            "A certificate without the EK usage 2.23.133.8.1 is refused",
            wrong,
            why,
            certificate(purposes=()),
        ),
        refused(
            "of-another-usage",
            "N41",
            "A certificate for TLS clients in place of an EK's is refused",
            wrong,
            why,
            certificate(purposes=other),
        ),
        refused(
            "of-an-authority",
            "N41",
            "A CA certificate in place of an EK's is refused",
            wrong,
            why,
            certificate(ca=True),
        ),
        refused(
            "of-a-signing-key",
            "N41",
            "A certificate of a key that signs, in place of one that decrypts, is refused",
            wrong,
            why,
            certificate(allows="digital_signature"),
        ),
        refused(
            "of-no-maker",
            "N41",
            "A certificate that names no TPM maker is refused",
            wrong,
            why,
            certificate(named=False),
            importance="high",
        ),
    ]


def _signatures() -> list[Json]:
    impostor = certificate(maker("impostor"))
    changed = bytearray(certificate())
    changed[-1] ^= 1
    return [
        refused(
            "by-an-impostor",
            "N41",
            "A certificate by a key that only bears a maker's name is refused",
            "ek-certificate-untrusted",
            "A chain is proven by keys, never by names; no test mode may skip it.",
            impostor,
        ),
        refused(
            "with-a-changed-signature",
            "N41",
            "A certificate with one bit of its signature changed is refused",
            "ek-certificate-untrusted",
            "Nothing in it is proven but by this signature.",
            bytes(changed),
        ),
    ]


def _keys() -> list[Json]:
    weak = rsa.RSAPublicNumbers(65537, weak_modulus()).public_key()
    sound = rsa.RSAPublicNumbers(65537, weak_modulus() + 2).public_key()
    p192 = private_key("ek", "p192").public_key()
    assert isinstance(p192, ec.EllipticCurvePublicKey)
    return [
        refused(
            "with-the-roca-fingerprint",
            "N42",
            "An RSA endorsement key with the ROCA fingerprint is refused",
            "ek-key-weak",
            "Its private half can be computed from the public one (CVE-2017-15361).",
            certificate(key=weak, allows="key_encipherment"),
        ),
        accepted(
            "without-the-roca-fingerprint",
            "N42",
            "An RSA endorsement key without the fingerprint is believed",
            certificate(key=sound, allows="key_encipherment"),
        ),
        refused(
            "on-a-small-curve",
            "N42",
            "An endorsement key on a 192-bit curve is refused",
            "ek-key-not-accepted",
            "Key sizes and curves are a list, not whatever a library can read.",
            certificate(key=p192),
            verdict="malformed",
        ),
        refused(
            "under-denied-firmware",
            "N42",
            "A TPM that runs firmware which a published attack breaks is refused",
            "tpm-firmware-denied",
            "Keys that such firmware made or used are anybody's (ROCA, TPM-FAIL).",
            certificate(),
            firmware_version=f"{_OLD_FIRMWARE:016x}",
        ),
        accepted(
            "under-mended-firmware",
            "N42",
            "A TPM whose firmware was updated is believed",
            certificate(),
            firmware_version=f"{_NEW_FIRMWARE:016x}",
        ),
    ]


def _moments() -> list[Json]:
    why = "Validity is judged at the moment of appraisal."
    return [
        refused(
            "expired",
            "N43",
            "An EK certificate past its end is refused",
            "certificate-expired",
            why,
            certificate(until=NOW - SECOND),
        ),
        refused(
            "not-yet-valid",
            "N43",
            "An EK certificate before its beginning is refused",
            "certificate-not-yet-valid",
            why,
            certificate(start=NOW + SECOND),
        ),
    ]


def _activation(
    name: str,
    anchors: str,
    title: str,
    why: str,
    *steps: Json,
) -> Json:
    last = steps[-1]["expected"]
    return case(
        f"activation-{name}",
        anchors,
        title,
        kind="activation",
        given={"steps": list(steps)},
        verdict=last["verdict"],
        code=last["code"],
        why=why,
        importance="critical",
    )


def _answer(by: str, verdict: str, code: str | None = None, *, after_s: int = 1) -> Json:
    return {
        "by": by,
        "after_s": after_s,
        "expected": {"verdict": verdict, "code": code},
    }


def _bindings() -> list[Json]:
    bound = (
        "The secret is wrapped to the endorsement key and to the attestation key's Name, computed "
        "from the submitted public area: only the TPM that holds both unwraps it (CVE-2021-3406)."
    )
    return [
        _activation(
            "honest",
            "N11 N12 N44",
            "The TPM that holds both keys gives back the secret and is believed",
            "The neighbour of every failed activation.",
            _answer("the-tpm", "accepted"),
        ),
        _activation(
            "of-another-attestation-key",
            "N11 N44",
            "A TPM with the endorsement key and another attestation key cannot answer",
            bound,
            _answer("the-tpm-with-another-attestation-key", "refused", _FAILED),
        ),
        _activation(
            "of-another-endorsement-key",
            "N11 N44",
            "A TPM with another endorsement key cannot answer",
            bound,
            _answer("another-tpm", "refused", _FAILED),
        ),
        _activation(
            "over-another-connection",
            "N11 N12",
            "The right answer from another device than the one that was asked is refused",
            bound,
            _answer("the-tpm-over-another-connection", "refused", _SPENT),
        ),
        _activation(
            "for-another-attestation-key",
            "N11 N18",
            "A right answer does not vouch for another attestation key than the one activated",
            bound,
            _answer("the-tpm-for-another-attestation-key", "refused", "ak-not-resident"),
        ),
        _activation(
            "for-another-endorsement-key",
            "N11 N13",
            "A right answer does not vouch for another endorsement key than the one it was made by",
            bound,
            _answer("the-tpm-for-another-endorsement-key", "refused", "ek-mismatch"),
        ),
    ]


def _tries() -> list[Json]:
    tries = (
        "A secret that may be guessed again, or that an error gives away, proves nothing "
        "(CVE-2023-38201): one try, and no word of it in any answer."
    )
    guess = _answer("a-guess", "refused", _FAILED)
    return [
        _activation(
            "guessed",
            "N12",
            "A wrong answer is refused, and the refusal does not hold the secret",
            tries,
            guess,
        ),
        _activation(
            "tried-twice",
            "N12",
            "After a wrong answer the right one comes too late",
            tries,
            guess,
            _answer("the-tpm", "refused", _SPENT),
        ),
        _activation(
            "answered-twice",
            "N12",
            "A right answer does not count a second time",
            tries,
            _answer("the-tpm", "accepted"),
            _answer("the-tpm", "refused", _SPENT),
        ),
        _activation(
            "answered-too-late",
            "N12",
            "The right answer after the challenge's time is refused",
            tries,
            _answer("the-tpm", "refused", _SPENT, after_s=3600),
        ),
    ]
