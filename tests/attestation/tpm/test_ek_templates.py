"""EK templates against the numbers that TCG's EK Credential Profile 2.5 publishes."""

from __future__ import annotations

import pytest
from tpm2_pytss.constants import TPM2_ALG, TPM2_ECC
from tpm2_pytss.types import TPMT_PUBLIC

from attestation.tpm.ek_templates import EK_HANDLES, EkTemplate, ek_template, with_nonce

POLICY_A = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
POLICY_B = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
POLICY_B_384 = (
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca"
    "cb47ba09699646150f9fc000f3f80e12"
)
LOW, HIGH = 0x000300B2, 0x000300F2


@pytest.mark.parametrize(
    ("template", "attributes", "policy", "name_alg", "aes", "places"),
    [
        ("L-1", LOW, POLICY_A, TPM2_ALG.SHA256, 128, (0x01C00002, 0x01C00003, 0x01C00004)),
        ("L-2", LOW, POLICY_A, TPM2_ALG.SHA256, 128, (0x01C0000A, 0x01C0000B, 0x01C0000C)),
        ("H-1", HIGH, POLICY_B, TPM2_ALG.SHA256, 128, (0x01C00012, None, 0x01C00013)),
        ("H-2", HIGH, POLICY_B, TPM2_ALG.SHA256, 128, (0x01C00014, None, 0x01C00015)),
        ("H-3", HIGH, POLICY_B_384, TPM2_ALG.SHA384, 256, (0x01C00016, None, 0x01C00017)),
        ("H-4", HIGH, None, TPM2_ALG.SHA512, 256, (0x01C00018, None, 0x01C00019)),
        ("H-6", HIGH, POLICY_B_384, TPM2_ALG.SHA384, 256, (0x01C0001C, None, 0x01C0001D)),
        ("H-7", HIGH, POLICY_B_384, TPM2_ALG.SHA384, 256, (0x01C0001E, None, 0x01C0001F)),
    ],
)
def test_template_is_the_published_one(template, attributes, policy, name_alg, aes, places) -> None:
    chosen = EkTemplate(template)
    area, rest = TPMT_PUBLIC.unmarshal(ek_template(chosen))
    assert rest == len(ek_template(chosen))
    assert int(area.objectAttributes) == attributes
    assert policy is None or bytes(area.authPolicy).hex() == policy
    assert int(area.nameAlg) == name_alg
    assert int(area.parameters.asymDetail.symmetric.keyBits.aes) == aes
    assert int(area.parameters.asymDetail.symmetric.mode.aes) == TPM2_ALG.CFB
    assert (chosen.certificate_nv, chosen.nonce_nv, chosen.template_nv) == places


@pytest.mark.parametrize(
    ("template", "sizes"), [("L-1", (256,)), ("L-2", (32, 32)), ("H-1", (0,)), ("H-3", (0, 0))]
)
def test_unique_is_filled_in_the_low_range_only(template: str, sizes: tuple[int, ...]) -> None:
    area, _ = TPMT_PUBLIC.unmarshal(ek_template(EkTemplate(template)))
    unique = area.unique
    seen = (
        (int(unique.rsa.size),)
        if int(area.type) == TPM2_ALG.RSA
        else (int(unique.ecc.x.size), int(unique.ecc.y.size))
    )
    assert seen == sizes


def test_curves_are_those_of_their_names() -> None:
    for template, curve in (
        (EkTemplate.P_256_LOW, TPM2_ECC.NIST_P256),
        (EkTemplate.P_384, TPM2_ECC.NIST_P384),
        (EkTemplate.P_521, TPM2_ECC.NIST_P521),
    ):
        area, _ = TPMT_PUBLIC.unmarshal(ek_template(template))
        assert int(area.parameters.eccDetail.curveID) == curve


def test_nonce_begins_unique_and_stands_in_x_alone() -> None:
    rsa = ek_template(EkTemplate.RSA_2048_LOW, nonce=b"nonce")
    ecc = ek_template(EkTemplate.P_256_LOW, nonce=b"nonce")
    assert rsa[-256:] == b"nonce" + bytes(251)
    assert ecc[-66:] == b"nonce" + bytes(27) + b"\x00\x20" + bytes(32)
    for template in (EkTemplate.RSA_2048_LOW, EkTemplate.P_256_LOW):
        plain = ek_template(template)
        assert with_nonce(plain, template, b"nonce") == ek_template(template, nonce=b"nonce")


def test_nonce_that_does_not_fit_is_refused() -> None:
    template = EkTemplate.P_256_LOW
    with pytest.raises(ValueError, match="33 bytes"):
        ek_template(template, nonce=bytes(33))
    for area in (b"", ek_template(EkTemplate.P_256)):
        with pytest.raises(ValueError, match="unique"):
            with_nonce(area, template, b"nonce")
    with pytest.raises(ValueError, match="unique"):
        with_nonce(ek_template(template), template, bytes(33))


def test_usual_persistent_handles_are_looked_at() -> None:
    assert {0x81010001, 0x81010016} <= set(EK_HANDLES)
