"""Cases of kind ``attested-csr``: an enrolment inside a PKCS#10 request, as EST carries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.tpm.public import parse_public
from attestation.wire.attested_csr import ECDSA_SHA256, Names, build_attested_csr
from attestation.wire.csr_attestation import build_request, read_bundle
from attestation.wire.enrolment_codec import EnrolmentRequest
from device_agent.ports import KeyRole
from tests.conformance.generate.device import NOW, private_key, seed
from tests.conformance.generate.enrolments import Floor
from tests.conformance.generate.freshness import authority
from tests.conformance.generate.model import Json, blob, case
from tests.conformance.run.enrolments import request_of

Sign = Callable[[bytes], bytes]

_NAMES: Final = Names(subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]))
_BOUND: Final = (
    "What proves the state of a device must stand under the key that gets the certificate: a "
    "request whose parts are of different keys, connections or moments proves nothing."
)


def _signer(key: ec.EllipticCurvePrivateKey) -> Sign:
    return lambda content: key.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def _given(
    floor: Floor,
    change: Callable[[EnrolmentRequest], EnrolmentRequest] = lambda request: request,
    *,
    asked: ec.EllipticCurvePrivateKey | None = None,
    signer: Sign | None = None,
    names: Names = _NAMES,
    **parts: Any,
) -> Json:
    """The honest enrolment of a floor inside a CSR of its LDevID key, or of the key asked for."""
    described = floor.request(**parts)
    request = change(request_of(described.pop("request")))
    key = asked or floor.tpm.keys[KeyRole.LDEVID].private
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    described["csr"] = blob(
        build_attested_csr(
            request,
            names,
            spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            sign=signer or _signer(key),
        )
    )
    return described


def _case(
    name: str,
    anchors: str,
    title: str,
    code: str | None,
    why: str,
    given: Json,
    *,
    verdict: str = "refused",
    **more: object,
) -> Json:
    return case(
        f"csr-{name}",
        anchors,
        title,
        kind="attested-csr",
        given=given,
        verdict=verdict,
        code=code,
        why=why,
        importance="critical",
        **more,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        _case(
            "honest",
            "N10 N11 N15 N17 N39",
            "An honest device enrols by a request with its attestation inside",
            None,
            "The neighbour of every refused request.",
            _given(Floor()),
            verdict="accepted",
        ),
        *_keys(),
        *_nonces(),
        *_missing(),
        *_names(),
    ]


def _keys() -> list[Json]:
    return [
        _case(
            "signed-by-another-key",
            "N17",
            "A request that its own key has not signed is refused",
            "csr-signature-invalid",
            _BOUND,
            _given(Floor(), signer=_signer(private_key("another signer"))),
        ),
        _case(
            "for-another-key",
            "N17",
            "A request for another key than the certified one is refused",
            "csr-key-mismatch",
            _BOUND,
            _given(Floor(), asked=private_key("software")),
        ),
    ]


def _nonces() -> list[Json]:
    elsewhere = authority().issue("enrol/elsewhere", NOW, seed("another connection", 16))
    return [
        _case(
            "certified-for-another-nonce",
            "N10 N39",
            "A certification that answers the nonce of another connection is refused",
            "certify-mismatch",
            _BOUND,
            _given(Floor(), nonce_certified=elsewhere),
        ),
        _case(
            "twice-attested",
            "N17",
            "A request that carries its attestation twice is malformed",
            "csr-malformed",
            "Of two attestations one reader judges the first and another the second.",
            _twice(),
            verdict="malformed",
        ),
    ]


def _twice() -> Json:
    floor = Floor()
    given = _given(floor)
    whole = request_of(floor.request()["request"])
    key = floor.tpm.keys[KeyRole.LDEVID]
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    spki = parse_public(key.public_area).spki_der
    bundle = read_bundle(build_attested_csr(whole, _NAMES, spki=spki, sign=_signer(key.private)))
    assert bundle is not None
    doubled = replace(bundle, statements=(*bundle.statements, bundle.statements[0]))
    given["csr"] = blob(
        build_request(
            _NAMES.subject.public_bytes(),
            spki,
            doubled,
            algorithm=ECDSA_SHA256,
            sign=_signer(key.private),
        )
    )
    return given


def _missing() -> list[Json]:
    why = (
        "A certificate authority that takes a plain request where proofs are asked for gives a "
        "hardware key's name to any key."
    )

    def bare(request: EnrolmentRequest) -> EnrolmentRequest:
        return replace(
            request,
            ldevid_certify=None,
            idevid_certify=None,
            iak_public=b"",
            ldevid_public=b"",
            evidence=b"",
            iak_chain=(),
            idevid_chain=(),
        )

    return [
        _case(
            "plain",
            "N15",
            "A plain request without any attestation is refused",
            "proofs-missing",
            why,
            _given(Floor(), bare),
            facts={"missing": ["residency", "evidence"]},
        ),
        _case(
            "without-evidence",
            "N15",
            "A request that attests the key but not the state of the device is refused",
            "proofs-missing",
            why,
            _given(Floor(), lambda request: replace(request, evidence=b"")),
            facts={"missing": ["evidence"]},
        ),
    ]


def _names() -> list[Json]:
    floor = Floor()
    certificate = floor.tpm.certificates[KeyRole.IDEVID]
    renewed = x509.load_der_x509_certificate(certificate)
    names = Names(
        subject=renewed.subject,
        alternative=renewed.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value.public_bytes(),
    )
    other = replace(names, alternative=_another_name())
    why = "Renewal that may change the name is a way into another device's identity."
    return [
        _case(
            "renewal-keeps-its-names",
            "N13",
            "A request to renew that asks for the names of its certificate passes",
            None,
            "The neighbour of the renewal that asks for another name.",
            {**_given(floor, names=names), "renews": blob(certificate)},
            verdict="accepted",
        ),
        _case(
            "renewal-of-another-subject",
            "N13",
            "A request to renew that asks for another subject is refused",
            "csr-subject-changed",
            why,
            {**_given(floor), "renews": blob(certificate)},
        ),
        _case(
            "renewal-of-another-alternative-name",
            "N13",
            "A request to renew that asks for another subjectAltName is refused",
            "csr-subject-changed",
            why,
            {**_given(floor, names=other), "renews": blob(certificate)},
        ),
    ]


def _another_name() -> bytes:
    uri = x509.UniformResourceIdentifier("spiffe://fleet.example/device/another")
    return x509.SubjectAlternativeName([uri]).public_bytes()
