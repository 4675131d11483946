"""Azure's managed identity tokens: as they come, and what stands in one that Azure signed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from attestation.base64url import base64url
from attestation.errors import AttestationError
from tests.conformance.generate.rsa_keys import rsa_key
from verifier.issuance.cloud_azure import AzureKeys, judge_azure

_KEY = rsa_key("azure")
_HEAD = base64url(b'{"typ":"JWT","alg":"RS256","kid":"one"}')
_TRUSTED = AzureKeys(
    keys={"one": _KEY.public_key()},
    issuers=frozenset({"https://sts.windows.net/0b1c/"}),
    audience="api://enrolment",
    resources=("/subscriptions/5f2e/resourceGroups/fleet/*",),
)
_AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


def run(data: bytes) -> None:
    """Read hostile bytes as a token, then as the claims of a signed one."""
    with contextlib.suppress(AttestationError):
        judge_azure(data.decode("latin-1"), _TRUSTED, _AT)
    signed = b".".join((_HEAD, base64url(data)))
    signature = _KEY.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    judge_azure(b".".join((signed, base64url(signature))).decode(), _TRUSTED, _AT)
