"""AWS's instance identity documents: everything but the signature, which no fuzzer makes."""

from __future__ import annotations

from tests.conformance.generate.rsa_keys import rsa_key
from verifier.issuance.cloud_aws import AwsKeys, judge_aws

_TRUSTED = AwsKeys(
    keys={"eu-central-1": (rsa_key("aws").public_key(),)}, accounts=frozenset({"123456789012"})
)


def run(data: bytes) -> None:
    """Read hostile bytes."""
    judge_aws(data, _TRUSTED)
