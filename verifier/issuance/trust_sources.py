"""What initial trust is judged by: TPM makers' roots, listed keys, clouds' keys; as values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.errors import AttestationError, LimitExceeded, MalformedInput
from attestation.limits import MAX_LISTED_EKS
from attestation.refusals import RefusalCode
from attestation.wire.strict_json import parse_json
from verifier.endorsement.ek import EkRules
from verifier.endorsement.vendor_roots import PemFile, VendorRoots, require_authorities
from verifier.issuance.cloud_aws import MIN_RSA_BITS, AwsKeys
from verifier.issuance.cloud_azure import AzureKeys, read_jwks
from verifier.issuance.enrolment_policy import AwsTrust, AzureTrust, EnrolmentPolicy
from verifier.issuance.initial_trust import TrustName

Read = Callable[[str], bytes]
"""Reads a file by the name that the policy gives it; raises FileUnreadable."""


class FileUnreadable(Exception):
    """A file that the policy names cannot be read; the text says why."""


class SourceUnusable(Exception):
    """A file that the policy names cannot be read or used.

    Attributes:
        key: The policy's key that names it, e.g. ``ek.allow_list``.
        reason: The file, and what is wrong with it.
    """

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key}: {reason}")


_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")
_STRUCTURE: Final = "EK allow list"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSources:
    """Everything outside the policy's text that its expressions need.

    Attributes:
        ek_roots: TPM makers believed; None where no class names ``tpm-ek``.
        ek_rules: What is asked of EK certificates.
        listed_eks: SHA-256 of the SubjectPublicKeyInfo of each listed EK.
        aws: None where no class names ``aws-iid``.
        azure: None where no class names ``azure-msi``.
    """

    ek_roots: VendorRoots | None = None
    ek_rules: EkRules = field(default_factory=EkRules)
    listed_eks: frozenset[bytes] = frozenset()
    aws: AwsKeys | None = None
    azure: AzureKeys | None = None

    @property
    def endorsers(self) -> frozenset[bytes]:
        """What may stand as a device's anchor beside manufacturers' roots.

        SHA-256 of TPM makers' roots, and of listed EKs, each of which stands for itself.
        """
        roots = self.ek_roots.roots if self.ek_roots is not None else ()
        return frozenset(root.sha256 for root in roots) | self.listed_eks


def trust_sources(
    policy: EnrolmentPolicy, read: Read, packaged: Callable[[], VendorRoots] | None
) -> TrustSources:
    """Read what a policy's expressions rest on; what no class names is not read.

    Args:
        policy: The enrolment policy.
        read: Reads a file that it names.
        packaged: Gives the packaged TPM makers' roots; None to believe none of them.

    Raises:
        SourceUnusable: If a file cannot be read or used.
    """
    names = policy.trust_names
    return TrustSources(
        ek_roots=_ek_roots(policy, read, packaged) if TrustName.TPM_EK in names else None,
        ek_rules=EkRules(accept_expired=policy.accept_expired_ek),
        listed_eks=_listed(policy, read) if TrustName.EK_ALLOW_LIST in names else frozenset(),
        aws=_aws(policy.aws, read)
        if policy.aws is not None and TrustName.AWS_IID in names
        else None,
        azure=_azure(policy.azure, read)
        if policy.azure is not None and TrustName.AZURE_MSI in names
        else None,
    )


def _content(key: str, name: str, read: Read) -> bytes:
    try:
        return read(name)
    except FileUnreadable as error:
        raise SourceUnusable(key, str(error)) from error


def _ek_roots(
    policy: EnrolmentPolicy, read: Read, packaged: Callable[[], VendorRoots] | None
) -> VendorRoots:
    bundle = packaged() if packaged is not None else None
    if not policy.ek_roots and bundle is not None:
        return bundle
    files = [
        PemFile(origin=name, content=_content(f"ek.roots[{number}]", name, read))
        for number, name in enumerate(policy.ek_roots, 1)
    ]
    for number, file in enumerate(files, 1):
        try:
            require_authorities(file)
        except AttestationError as error:
            raise SourceUnusable(f"ek.roots[{number}]", f"{file.origin}: {error.reason}") from error
    try:
        return VendorRoots.from_operator(files, beside=bundle)
    except AttestationError as error:
        raise SourceUnusable("ek.roots", error.reason) from error


def _listed(policy: EnrolmentPolicy, read: Read) -> frozenset[bytes]:
    key, name = "ek.allow_list", policy.ek_allow_list
    try:
        return read_ek_list(_content(key, name, read).decode(), name)
    except UnicodeDecodeError as error:
        raise SourceUnusable(key, f"{name} is not UTF-8 text") from error
    except AttestationError as error:
        raise SourceUnusable(key, error.reason) from error


def _aws(trust: AwsTrust, read: Read) -> AwsKeys:
    keys: dict[str, tuple[rsa.RSAPublicKey, ...]] = {}
    for region, name in trust.certificates:
        key = f"aws.certificates.{region}"
        try:
            found = x509.load_pem_x509_certificates(_content(key, name, read))
        except ValueError as error:
            raise SourceUnusable(key, f"{name} is no PEM text with certificates") from error
        usable = [one.public_key() for one in found]
        strong = tuple(
            one
            for one in usable
            if isinstance(one, rsa.RSAPublicKey) and one.key_size >= MIN_RSA_BITS
        )
        if len(strong) != len(usable):
            raise SourceUnusable(
                key,
                f"{name} holds a certificate that is not of an RSA key of {MIN_RSA_BITS} bits "
                "or more; wanted AWS's RSA-2048 certificate of the region",
            )
        keys[region] = strong
    return AwsKeys(keys=keys, accounts=trust.accounts)


def _azure(trust: AzureTrust, read: Read) -> AzureKeys:
    key, name = "azure.jwks", trust.jwks
    try:
        document = parse_json(_content(key, name, read))
        if not isinstance(document, dict):
            raise SourceUnusable(key, f"{name} is no JSON object with keys")
        keys = read_jwks(document)
    except ValueError as error:
        raise SourceUnusable(key, f"{name}: {error}") from error
    return AzureKeys(
        keys=keys,
        issuers=trust.issuers,
        audience=trust.audience,
        resources=trust.resources,
    )


def read_ek_list(text: str, origin: str) -> frozenset[bytes]:
    """Read an allow list: one digest a line, hexadecimal; blank lines and ``#`` comments pass.

    Args:
        text: Each digest is the SHA-256 of an EK's SubjectPublicKeyInfo (DER).
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: ``policy-invalid`` for a line of another form, or an empty list.
        LimitExceeded: If there are too many.
    """
    found: set[bytes] = set()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not _DIGEST.fullmatch(word):
            raise _invalid(f"{origin}, line {number}: wanted a SHA-256 digest of 64 hex digits")
        if len(found) >= MAX_LISTED_EKS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{origin}: more than {MAX_LISTED_EKS} endorsement keys",
                structure=_STRUCTURE,
            )
        found.add(bytes.fromhex(word))
    if not found:
        raise _invalid(f"{origin}: the list is empty; it would let in no device")
    return frozenset(found)


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.POLICY_INVALID, reason, structure=_STRUCTURE)
