"""What clouds say of an instance, right and oddly wrong."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from attestation.errors import AttestationError
from attestation.limits import MAX_CLOUD_DOCUMENT_BYTES
from attestation.refusals import RefusalCode
from tests.simulators.soft_cloud import (
    ACCOUNT,
    AUDIENCE,
    INSTANCE,
    ISSUER,
    REGION,
    RESOURCE,
    SoftAws,
    SoftAzure,
)
from verifier.issuance.cloud_aws import AwsInstance, AwsKeys, judge_aws
from verifier.issuance.cloud_azure import AzureKeys, judge_azure, read_jwks

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AWS, OTHER_AWS = SoftAws(0), SoftAws(1)
AZURE, OTHER_AZURE = SoftAzure(0), SoftAzure(1)
INSTANCE_TRUSTED = AwsInstance(account=ACCOUNT, region=REGION, instance=INSTANCE)


def aws_keys(*signers: SoftAws, region: str = REGION) -> AwsKeys:
    keys = tuple(one.key.public_key() for one in signers or (AWS,))
    return AwsKeys(keys={region: keys}, accounts=frozenset({ACCOUNT}))


def azure_keys(*services: SoftAzure) -> AzureKeys:
    keys = {}
    for one in services or (AZURE,):
        keys.update(read_jwks(one.jwks))
    return AzureKeys(
        keys=keys,
        issuers=frozenset({ISSUER}),
        audience=AUDIENCE,
        resources=("/subscriptions/5f2e/resourceGroups/FLEET/*",),
    )


def refused(code: RefusalCode, document: bytes, keys: AwsKeys | None = None) -> None:
    with pytest.raises(AttestationError) as caught:
        judge_aws(document, keys or aws_keys())
    assert caught.value.code is code


def refused_token(code: RefusalCode, token: str, at: datetime = NOW) -> None:
    with pytest.raises(AttestationError) as caught:
        judge_azure(token, azure_keys(), at)
    assert caught.value.code is code


@pytest.mark.parametrize(
    "options",
    [
        (pkcs7.PKCS7Options.NoCerts,),
        (pkcs7.PKCS7Options.NoCerts, pkcs7.PKCS7Options.NoAttributes),
        (pkcs7.PKCS7Options.NoCapabilities,),
    ],
)
def test_signed_document_names_its_instance(options: tuple[pkcs7.PKCS7Options, ...]) -> None:
    text = AWS.document(options=options)
    framed = b"-----BEGIN PKCS7-----\n" + text + b"-----END PKCS7-----\n"

    for form in (text, base64.b64decode(text), framed):
        assert judge_aws(form, aws_keys()) == INSTANCE_TRUSTED


def test_document_in_indefinite_lengths_is_read(tmp_path: Path) -> None:
    streamed = AWS.streamed(tmp_path, AWS.content())

    assert streamed[1] == 0x80
    assert judge_aws(streamed, aws_keys()) == INSTANCE_TRUSTED
    changed = streamed.replace(b"x86_64", b"x86_65")
    refused(RefusalCode.AWS_SIGNATURE_INVALID, changed)


def test_one_of_a_regions_keys_is_enough() -> None:
    assert judge_aws(AWS.document(), aws_keys(OTHER_AWS, AWS)) == INSTANCE_TRUSTED


def test_no_other_key_region_or_weak_key_vouches() -> None:
    wrong = RefusalCode.AWS_SIGNATURE_INVALID

    refused(wrong, OTHER_AWS.document())
    refused(wrong, AWS.document(), aws_keys(region="eu-west-1"))
    refused(wrong, AWS.document(AWS.content(region="eu-west-1")))
    refused(wrong, AWS.document(digest=hashes.SHA384()))
    weak = SoftAws(2, 1024)
    refused(wrong, weak.document(), aws_keys(weak))


@pytest.mark.parametrize("attributes", [True, False])
def test_changed_content_is_refused(*, attributes: bool) -> None:
    options = [pkcs7.PKCS7Options.NoCerts]
    if not attributes:
        options.append(pkcs7.PKCS7Options.NoAttributes)
    der = base64.b64decode(AWS.document(options=tuple(options)))

    changed = der.replace(b"0123456789abcdef0", b"0123456789abcdef1")

    assert changed != der
    refused(RefusalCode.AWS_SIGNATURE_INVALID, changed)


def test_instance_of_another_account_is_refused() -> None:
    foreign = AWS.document(AWS.content(accountId="999999999999"))

    refused(RefusalCode.AWS_DOCUMENT_FOREIGN, foreign)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"not json",
        b'{"region": "eu-central-1", "region": "x"}',
        AWS.content(region=None),
        AWS.content(accountId=123456789012),
        AWS.content(instanceId="i-x/../y"),
        AWS.content(instanceId=None),
    ],
)
def test_signed_content_that_is_no_document_is_refused(content: bytes) -> None:
    refused(RefusalCode.AWS_DOCUMENT_MALFORMED, AWS.document(content))


def signed(**changes: object) -> str:
    """A token that says what a library would not let it say."""
    claims = jwt.decode(AZURE.token(NOW), options={"verify_signature": False})
    claims = {name: one for name, one in {**claims, **changes}.items() if one is not None}
    return jwt.PyJWS().encode(
        json.dumps(claims).encode(), AZURE.key, "RS256", headers={"kid": AZURE.kid}
    )


def nested(depth: int) -> bytes:
    return b"\x30\x80" * depth + b"\x00\x00" * depth


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x00",
        b"not base64 \xff",
        b"aGVsbG8=",
        nested(200),
        b"\x30\x82\x0f\xa0" + b"\x05\x00" * 2000,
        b"\x30" + b"\x84\x7f\xff\xff\xff",
        b"\x30\x03\x02\x05\x00",
        b"\x30\x02\x04\x80",
        b"\x30\x03\x1f\x01\x00",
        b"\x30" + bytes(MAX_CLOUD_DOCUMENT_BYTES),
        base64.b64decode(AWS.document()) + b"\x00",
        base64.b64decode(AWS.document())[:-1],
    ],
)
def test_what_is_no_signed_content_is_refused(raw: bytes) -> None:
    refused(RefusalCode.AWS_DOCUMENT_MALFORMED, raw)


def test_one_instance_has_one_digest() -> None:
    other = AwsInstance(account=ACCOUNT, region=REGION, instance="i-00000000")

    assert INSTANCE_TRUSTED.digest == judge_aws(AWS.document(), aws_keys()).digest
    assert INSTANCE_TRUSTED.digest != other.digest


def test_token_names_its_resource_whatever_its_case() -> None:
    found = judge_azure(AZURE.token(NOW), azure_keys(), NOW)
    shouted = judge_azure(AZURE.token(NOW, xms_mirid=RESOURCE.upper()), azure_keys(), NOW)

    assert found.resource == RESOURCE.lower()
    assert shouted.digest == found.digest


@pytest.mark.parametrize(
    ("minutes", "holds"), [(-7, False), (-5.5, True), (0, True), (60.5, True), (61, False)]
)
def test_token_holds_in_its_time_only(minutes: float, *, holds: bool) -> None:
    token, at = AZURE.token(NOW), NOW + timedelta(minutes=minutes)

    if holds:
        judge_azure(token, azure_keys(), at)
    else:
        refused_token(RefusalCode.AZURE_TOKEN_EXPIRED, token, at)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://sts.windows.net/other/"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "api://other"},
        {"aud": [AUDIENCE]},
        {"xms_mirid": "/subscriptions/other/resourcegroups/fleet/vm"},
    ],
)
def test_token_of_another_tenant_audience_or_resource_is_refused(
    changes: dict[str, object],
) -> None:
    refused_token(RefusalCode.AZURE_TOKEN_FOREIGN, signed(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"xms_mirid": None},
        {"xms_mirid": 5},
        {"exp": None},
        {"exp": True},
        {"exp": 1e300},
        {"exp": -1},
        {"iat": None, "nbf": None},
    ],
)
def test_token_without_what_it_must_say_is_refused(changes: dict[str, object]) -> None:
    refused_token(RefusalCode.AZURE_TOKEN_MALFORMED, AZURE.token(NOW, **changes))


def test_token_by_another_key_or_way_is_refused() -> None:
    wrong = RefusalCode.AZURE_SIGNATURE_INVALID
    claims = jwt.decode(AZURE.token(NOW), options={"verify_signature": False})
    named = {"kid": AZURE.kid}

    refused_token(wrong, OTHER_AZURE.token(NOW))
    refused_token(wrong, OTHER_AZURE.token(NOW, header=named))
    refused_token(wrong, AZURE.token(NOW, header={"jwk": {"kty": "RSA"}}))
    refused_token(wrong, AZURE.token(NOW, header={"x5c": ["AA=="]}))
    hmac_key = "k" * 64
    refused_token(wrong, jwt.encode(claims, hmac_key, algorithm="HS256", headers=named))
    curve = ec.generate_private_key(ec.SECP256R1())
    refused_token(wrong, jwt.encode(claims, curve, algorithm="ES256", headers=named))
    refused_token(wrong, AZURE.token(NOW)[:-4] + "AAAA")


@pytest.mark.parametrize("token", ["", "a.b", "a.b.", "….b.c", "a" * 20_000, "e30.e30.e30x="])
def test_what_is_no_token_is_refused(token: str) -> None:
    refused_token(RefusalCode.AZURE_TOKEN_MALFORMED, token)


def test_unsigned_token_is_refused() -> None:
    claims = jwt.decode(AZURE.token(NOW), options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": AZURE.kid})

    refused_token(RefusalCode.AZURE_TOKEN_MALFORMED, unsigned)
    refused_token(RefusalCode.AZURE_SIGNATURE_INVALID, unsigned + "AAAA")


def test_key_set_must_hold_usable_keys() -> None:
    good = AZURE.jwks["keys"][0]
    curve = {"kty": "EC", "crv": "P-256", "kid": "e"}

    assert list(read_jwks({"keys": [curve, good, {**good, "kid": "x", "use": "enc"}]})) == ["key-0"]
    for wrong in (
        {},
        {"keys": []},
        {"keys": [curve]},
        {"keys": [good, good]},
        {"keys": [{**good, "kid": None}]},
        {"keys": [{**good, "n": "!"}]},
        {"keys": [{**good, "n": "AQAB"}]},
        {"keys": "all"},
    ):
        with pytest.raises(ValueError, match=r"."):
            read_jwks(wrong)
