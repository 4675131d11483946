"""Cases of kinds ``cloud-statement`` and ``initial-trust``: what a cloud's word is worth."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from tests.conformance.generate.device import ALWAYS, MADE, NOW
from tests.conformance.generate.model import Json, attack, blob, case
from tests.conformance.generate.rsa_keys import rsa_key, spki
from tests.simulators.soft_jose import b64, jws

_refused = partial(attack, "cloud", kind="cloud-statement")

REGION: Final = "eu-central-1"
OTHER_REGION: Final = "eu-west-1"
ACCOUNT: Final = "123456789012"
INSTANCE: Final = "i-0123456789abcdef0"
ISSUER: Final = "https://sts.windows.net/0b1c/"
AUDIENCE: Final = "api://enrolment"
RESOURCE: Final = "/subscriptions/5f2e/resourcegroups/fleet/providers/Microsoft.Compute/vm-1"
_KID: Final = "azure-1"
_MINUTE: Final = timedelta(minutes=1)
_WHOSE: Final = "A cloud signs for all of its customers; only the owner's own are the owner's."
_KEY: Final = "A signature counts by a key that was configured, never by one that came with it."
_ONCE: Final = (
    "The document has no nonce and no end, so that copies of it are everywhere; an instance is one "
    "device, the first that showed it beside a TPM."
)


def cases() -> list[Json]:
    """Every case of this file."""
    return [*_aws(), *_azure(), *_taken(), *_expressions()]


# --- AWS -------------------------------------------------------------------------------------
@cache
def _signer(label: str, bits: int = 2048) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    key = rsa_key(label, bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Region")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=MADE,
        not_valid_after=ALWAYS,
    )
    return builder.sign(key, hashes.SHA256()), key


def _document(
    by: str = "aws",
    *,
    bits: int = 2048,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
    **changes: object,
) -> bytes:
    """An instance identity document; the signature is over the content itself."""
    claims = {"accountId": ACCOUNT, "instanceId": INSTANCE, "region": REGION, **changes}
    certificate, key = _signer(by, bits)
    return (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(json.dumps(claims).encode())
        .add_signer(certificate, key, digest or hashes.SHA256())
        .sign(
            Encoding.DER,
            [
                pkcs7.PKCS7Options.Binary,
                pkcs7.PKCS7Options.NoCerts,
                pkcs7.PKCS7Options.NoAttributes,
            ],
        )
    )


def aws_trust() -> Json:
    """What the owner believes of AWS: its key of one region, and the accounts."""
    return {"keys": {REGION: blob(spki(rsa_key("aws")))}, "accounts": [ACCOUNT]}


def aws(document: bytes, **more: Any) -> Json:
    """A document as the metadata service serves it, beside what is believed."""
    return {
        "at": NOW.isoformat(),
        "cloud": "aws-iid",
        "statement": base64.b64encode(document).decode(),
        "trusted": aws_trust(),
        **more,
    }


_Row = tuple[str, str, str, str, str, bytes, str]
"""Name, anchors, title, code, why, document, verdict."""


def _aws_rows() -> tuple[_Row, ...]:
    altered = _document().replace(INSTANCE.encode(), INSTANCE[:-1].encode() + b"1")
    return (
        (
            "signed-by-another",
            "N41",
            "A document that somebody else signed is refused",
            "aws-signature-invalid",
            _KEY,
            _document("nobody"),
            "refused",
        ),
        (
            "content-changed",
            "N41",
            "A document that names another instance than was signed is refused",
            "aws-signature-invalid",
            _KEY,
            altered,
            "refused",
        ),
        (
            "of-another-region",
            "N41",
            "A region's key does not sign for another region",
            "aws-signature-invalid",
            "Each region has a key of its own; one that is lost must not be lost for all.",
            _document(region=OTHER_REGION),
            "refused",
        ),
        (
            "signed-with-another-hash",
            "N19",
            "A signature by another algorithm than the one that is meant is refused",
            "aws-signature-invalid",
            "Which algorithm counts is the verifier's to say, not the message's.",
            _document(digest=hashes.SHA384()),
            "refused",
        ),
        (
            "of-another-account",
            "N15",
            "A genuine document of another customer's instance is refused",
            "aws-document-foreign",
            _WHOSE,
            _document(accountId="210987654321"),
            "refused",
        ),
        (
            "without-an-instance",
            "N16",
            "A signed document that names no instance is malformed",
            "aws-document-malformed",
            "What is missing must not be read as a value that fits.",
            _document(instanceId=""),
            "malformed",
        ),
    )


def _aws() -> list[Json]:
    return [
        _accepted("aws", "A document that AWS signed for the owner's account is believed", aws),
        *(
            _refused(f"aws-{name}", anchors, title, code, why, aws(document), verdict=verdict)
            for name, anchors, title, code, why, document, verdict in _aws_rows()
        ),
        _refused(
            "aws-key-too-short",
            "N42",
            "A document signed by a configured key of 1024 bits is refused",
            "aws-signature-invalid",
            "An owner's mistake in the configuration is still a mistake.",
            aws(
                _document("aws short", bits=1024),
                trusted={
                    "keys": {REGION: blob(spki(rsa_key("aws short", 1024)))},
                    "accounts": [ACCOUNT],
                },
            ),
        ),
    ]


# --- Azure -----------------------------------------------------------------------------------
def _token(
    by: str = "azure",
    *,
    header: Mapping[str, object] | None = None,
    moved: timedelta = timedelta(0),
    **changes: object,
) -> str:
    """A managed identity token for an hour from five minutes ago."""
    begins = NOW + moved - 5 * _MINUTE
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "nbf": int(begins.timestamp()),
        "iat": int(begins.timestamp()),
        "exp": int((begins + 65 * _MINUTE).timestamp()),
        "xms_mirid": RESOURCE,
        **changes,
    }
    told = {name: value for name, value in claims.items() if value is not None}
    return jws({"typ": "JWT", "alg": "RS256", "kid": _KID, **(header or {})}, told, rsa_key(by))


def azure(token: str, at: datetime = NOW, **more: Any) -> Json:
    """A token beside what is believed."""
    return {
        "at": at.isoformat(),
        "cloud": "azure-msi",
        "statement": token,
        "trusted": {
            "keys": {_KID: blob(spki(rsa_key("azure")))},
            "issuers": [ISSUER],
            "audience": AUDIENCE,
            "resources": ["/subscriptions/5f2e/resourceGroups/fleet/*"],
        },
        **more,
    }


def _unsigned() -> str:
    head, claims, _ = _token(header={"alg": "none"}).split(".")
    return f"{head}.{claims}.{b64(b'none')}"


def _signed_with_the_public_key() -> str:
    """HS256 with the public key's bytes as the secret: the key confusion of many libraries."""
    head, claims, _ = _token(header={"alg": "HS256"}).split(".")
    mac = hmac.new(spki(rsa_key("azure")), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return f"{head}.{claims}.{b64(mac)}"


def _altered() -> str:
    head, _, made = _token().split(".")
    return f"{head}.{_token(xms_mirid=RESOURCE[:-1] + '2').split('.')[1]}.{made}"


def _azure_rows() -> tuple[tuple[str, str, str, str, str], ...]:
    """Name (as in the title), anchors, code, why, token."""
    return (
        ("signed-by-another", "N41", "signature-invalid", _KEY, _token("nobody")),
        ("content-changed", "N41", "signature-invalid", _KEY, _altered()),
        (
            "that-brings-its-key",
            "N41",
            "signature-invalid",
            _KEY,
            _token(header={"jku": "https://keys.example/"}),
        ),
        ("by-an-unknown-key", "N41", "signature-invalid", _KEY, _token(header={"kid": "azure-2"})),
        (
            "unsigned",
            "N19",
            "signature-invalid",
            "Which algorithm counts is the verifier's to say: 'none' is none.",
            _unsigned(),
        ),
        (
            "signed-with-the-public-key",
            "N19",
            "signature-invalid",
            "A public key is no secret: a MAC with it is anybody's (CVE-2015-9235).",
            _signed_with_the_public_key(),
        ),
        ("of-another-tenant", "N15", "token-foreign", _WHOSE, _token(iss=ISSUER + "x")),
        (
            "for-another-audience",
            "N15",
            "token-foreign",
            "A token for one service, shown to another, is a stolen one.",
            _token(aud="https://management.azure.com/"),
        ),
        (
            "of-another-resource",
            "N15",
            "token-foreign",
            _WHOSE,
            _token(xms_mirid=RESOURCE.replace("fleet", "fleet2")),
        ),
        (
            "that-has-ended",
            "N43",
            "token-expired",
            "A token is good until it ends: whoever has an old one is nobody.",
            _token(moved=-65 * _MINUTE),
        ),
        (
            "before-its-time",
            "N43",
            "token-expired",
            "A token that begins later is not good yet.",
            _token(moved=65 * _MINUTE),
        ),
    )


def _azure() -> list[Json]:
    return [
        _accepted("azure", "A token that Azure gave to the owner's resource is believed", azure),
        *(
            _refused(
                f"azure-{name}",
                anchors,
                f"A managed identity token {name.replace('-', ' ')} is refused",
                f"azure-{code}",
                why,
                azure(token),
            )
            for name, anchors, code, why, token in _azure_rows()
        ),
        _refused(
            "azure-without-a-resource",
            "N16",
            "A signed token that names no resource is malformed",
            "azure-token-malformed",
            "A user's token of the same tenant and audience is no machine's.",
            azure(_token(xms_mirid=None)),
            verdict="malformed",
        ),
    ]


# --- one device each -------------------------------------------------------------------------
def _taken() -> list[Json]:
    other = base64.b64encode(_document(instanceId=INSTANCE[:-1] + "f")).decode()
    same = base64.b64encode(_document()).decode()
    return [
        _refused(
            "aws-instance-taken",
            "N13",
            "An instance that another device is already is refused to a second one",
            "identity-taken",
            _ONCE,
            aws(_document(), shown_before=[{"device": "box-0001", "statement": same}]),
        ),
        _refused(
            "azure-resource-taken",
            "N13",
            "A resource that another device is already is refused, however its name is spelt",
            "identity-taken",
            _ONCE,
            azure(
                _token(xms_mirid=RESOURCE.upper()),
                shown_before=[{"device": "box-0001", "statement": _token()}],
            ),
        ),
        _accepted(
            "aws-another-instance-taken",
            "An instance beside one that another device is, is believed",
            aws,
            shown_before=[{"device": "box-0001", "statement": other}],
        ),
        _accepted(
            "aws-instance-again",
            "The device that an instance belongs to may show it again",
            aws,
            shown_before=[{"device": "box-0042", "statement": same}],
        ),
    ]


def _expressions() -> list[Json]:
    why = (
        "A cloud's word speaks of whoever may ask the metadata service inside an instance (every "
        "process, and every server that is made to fetch a URL), not of a TPM."
    )
    never = {
        "aws": "aws-iid",
        "azure": "azure-msi",
        "both": "aws-iid AND azure-msi",
        "either": "aws-iid OR azure-msi",
        "one-way": "idevid OR aws-iid",
        "one-way-inside": "(tpm-ek OR azure-msi) AND (idevid OR azure-msi)",
    }
    return [
        *(
            _refused(
                f"alone-{name}",
                "N39",
                f"A class that would trust {words} is refused when it is read",
                "policy-invalid",
                why,
                {"expression": words},
                verdict="malformed",
                kind="initial-trust",
            )
            for name, words in never.items()
        ),
        case(
            "cloud-beside-a-tpm",
            "N39 N41",
            "A class that asks for a cloud's word beside an endorsement key is taken",
            kind="initial-trust",
            given={"expression": "tpm-ek AND (aws-iid OR azure-msi)"},
            verdict="accepted",
            why="The neighbour of the clouds that would be enough alone.",
        ),
    ]


def _accepted(name: str, title: str, made: Any, **more: Any) -> Json:
    statement = _document() if made is aws else _token()
    return case(
        f"cloud-{name}",
        "N13 N15 N16 N19 N41 N43",
        title,
        kind="cloud-statement",
        given=made(statement, **more),
        verdict="accepted",
        why="The neighbour of every refused word of a cloud.",
    )
