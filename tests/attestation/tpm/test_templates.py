from __future__ import annotations

import hashlib

import pytest
from tpm2_pytss.constants import TPM2_ALG, TPM2_ECC, TPMA_OBJECT
from tpm2_pytss.types import TPMT_PUBLIC

from attestation.algorithms import HashAlgorithm
from attestation.tpm import templates
from attestation.tpm.public import parse_public
from attestation.tpm.templates import (
    CERTIFY_BRANCH,
    KeyTemplate,
    iak_branches,
    iak_template,
    idevid_branches,
    idevid_template,
    ldevid_template,
    policy_a,
    policy_authorize_nv,
    policy_command_code,
    policy_or,
    srk_template,
)
from tests.attestation.tpm.structures import ATTESTZ

SHA256, SHA384, SHA512 = HashAlgorithm.SHA256, HashAlgorithm.SHA384, HashAlgorithm.SHA512


def test_policy_a_is_the_published_one() -> None:
    assert policy_a(SHA256).hex() == (
        "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    )


@pytest.mark.parametrize(
    ("algorithm", "index", "published"),
    [
        (SHA256, 0x01C07F01, "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"),
        (
            SHA384,
            0x01C07F02,
            (
                "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca"
                "cb47ba09699646150f9fc000f3f80e12"
            ),
        ),
    ],
)
def test_endorsement_policy_b_is_the_published_one(algorithm, index, published) -> None:
    branches = [policy_a(algorithm), policy_authorize_nv(algorithm, index)]
    assert policy_or(algorithm, branches).hex() == published


@pytest.mark.parametrize(
    ("branches", "published"),
    [
        (
            (SHA256, idevid_branches(SHA256)),
            "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea",
        ),
        (
            (SHA256, iak_branches(SHA256)),
            "5437182326e414fca797d5f174615a1641f61255797c3a2b22c21d120b2d1e07",
        ),
        ((SHA512, idevid_branches(SHA512)), "7dd7500f"),
        ((SHA512, iak_branches(SHA512)), "8060d1fb"),
    ],
    ids=["IDevID SHA-256", "IAK SHA-256", "IDevID SHA-512", "IAK SHA-512"],
)
def test_device_key_policies_are_the_published_ones(branches, published: str) -> None:
    assert policy_or(*branches).hex().startswith(published)


def test_sha384_policies_are_those_of_a_real_devices_keys() -> None:
    iak = parse_public((ATTESTZ / "iak-TPMT_PUBLIC").read_bytes())
    assert policy_or(SHA384, iak_branches(SHA384)) == iak.auth_policy
    idevid = idevid_template(KeyTemplate.P_384)
    assert idevid[:60] in (ATTESTZ / "csrResponse-csr_contents").read_bytes()


def test_a_real_iak_is_made_from_our_template_but_for_its_point() -> None:
    real = (ATTESTZ / "iak-TPMT_PUBLIC").read_bytes()
    ours = iak_template(KeyTemplate.P_384)
    assert ours[: -2 * (2 + 3)] == real[: -2 * (2 + 48)]
    assert ours.endswith(b"\x00\x03IAK\x00\x03IAK")


def test_the_certify_branch_is_policy_a_then_certify() -> None:
    for branches in (idevid_branches(SHA256), iak_branches(SHA256)):
        certify = hashlib.sha256(policy_a(SHA256) + bytes.fromhex("0000016c00000148")).digest()
        assert branches[CERTIFY_BRANCH] == certify
        assert len(set(branches)) == 4


def test_commands_lead_to_different_policies() -> None:
    authority = policy_a(SHA256)
    codes = {policy_command_code(SHA256, authority, code) for code in templates.CommandCode}
    assert len(codes) == len(templates.CommandCode)


def read(template: bytes) -> TPMT_PUBLIC:
    """Read with the reference library, and see that nothing is left over."""
    public, used = TPMT_PUBLIC.unmarshal(template)
    assert used == len(template)
    assert public.marshal() == template
    return public


@pytest.mark.parametrize(
    ("template", "make", "bits"),
    [
        (template, make, bits)
        for template in KeyTemplate
        for make, bits in ((idevid_template, 0x000400F2), (iak_template, 0x000500F2))
    ],
)
def test_device_key_templates_are_those_of_the_standard(template, make, bits: int) -> None:
    public = read(make(template))
    big = template is KeyTemplate.P_384
    assert public.nameAlg == (TPM2_ALG.SHA384 if big else TPM2_ALG.SHA256)
    assert int(public.objectAttributes) == bits
    label = b"IDEVID" if make is idevid_template else b"IAK"
    if template is KeyTemplate.RSA_2048:
        assert public.type == TPM2_ALG.RSA
        assert public.parameters.rsaDetail.keyBits == 2048
        assert public.parameters.rsaDetail.exponent == 0
        wanted = TPM2_ALG.NULL if make is idevid_template else TPM2_ALG.RSAPSS
        assert public.parameters.rsaDetail.scheme.scheme == wanted
        assert bytes(public.unique.rsa) == label
    else:
        detail = public.parameters.eccDetail
        assert public.type == TPM2_ALG.ECC
        assert detail.curveID == (TPM2_ECC.NIST_P384 if big else TPM2_ECC.NIST_P256)
        assert detail.scheme.scheme == TPM2_ALG.ECDSA
        assert detail.scheme.details.ecdsa.hashAlg == public.nameAlg
        assert detail.kdf.scheme == detail.symmetric.algorithm == TPM2_ALG.NULL
        assert bytes(public.unique.ecc.x) == bytes(public.unique.ecc.y) == label


def test_another_unique_label_makes_another_template() -> None:
    assert bytes(read(idevid_template(KeyTemplate.P_256, b"\x00\x01IDEVID")).unique.ecc.x) == (
        b"\x00\x01IDEVID"
    )


def test_the_ldevid_template_signs_freely_and_stays_in_its_tpm() -> None:
    public = read(ldevid_template())
    assert public.objectAttributes == (
        TPMA_OBJECT.FIXEDTPM
        | TPMA_OBJECT.FIXEDPARENT
        | TPMA_OBJECT.SENSITIVEDATAORIGIN
        | TPMA_OBJECT.USERWITHAUTH
        | TPMA_OBJECT.NODA
        | TPMA_OBJECT.SIGN_ENCRYPT
    )
    assert public.parameters.eccDetail.curveID == TPM2_ECC.NIST_P256
    assert public.parameters.eccDetail.scheme.scheme == TPM2_ALG.NULL


def test_the_srk_template_is_the_reference_librarys() -> None:
    wanted = TPMT_PUBLIC.parse(
        "ecc256:aes128cfb",
        objectAttributes=TPMA_OBJECT.FIXEDTPM
        | TPMA_OBJECT.FIXEDPARENT
        | TPMA_OBJECT.SENSITIVEDATAORIGIN
        | TPMA_OBJECT.USERWITHAUTH
        | TPMA_OBJECT.NODA
        | TPMA_OBJECT.RESTRICTED
        | TPMA_OBJECT.DECRYPT,
    )
    assert srk_template() == wanted.marshal()


def test_handles_are_persistent_and_apart() -> None:
    handles = {
        templates.IDEVID_HANDLE,
        templates.IAK_HANDLE,
        templates.SRK_HANDLE,
        templates.LDEVID_HANDLE,
    }
    assert handles == {0x81020000, 0x81020001, 0x81000001, 0x81000010}
    assert (templates.IDEVID_CERTIFICATE_NV, templates.IAK_CERTIFICATE_NV) == (
        0x01C90000,
        0x01C90001,
    )
