"""The enrolment policy: its file, and what it says of a device or agent."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources

import pytest

from attestation.errors import IdentityMismatch, MalformedInput, VerificationError
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from verifier.issuance.enrolment_policy import (
    DEFAULT_POLICY,
    DeviceFacts,
    EnrolmentPolicy,
    ProofKind,
    ProofsMissing,
    TokenProof,
    wanted_of_evidence,
)
from verifier.issuance.enrolment_policy_file import load_enrolment_policy
from verifier.issuance.initial_trust import TrustName

ANCHOR = bytes(range(32))
FULL = f"""
id = "campus"
description = "Everything that may be said."

[[device]]
class = "kiosk"
match = {{ labels = ["kiosks", "-"], anchors = ["{ANCHOR.hex()}"], serial = "KSK-*" }}
initial_trust = "idevid AND tpm-ek"
proofs = ["pop", "residency", "evidence", "aibom", "provider-endorsement"]
accept = "affirming"
profile = "kiosk"
scope = ["print", "door:open"]
lifetime_days = 7
overlap_hours = 12
decommission_days = 1000

[[device]]
class = "shut"
match = {{ serial = "SHUT-*" }}
initial_trust = ""
proofs = ["pop", "residency", "evidence"]

[[device]]
class = "cloud"
initial_trust = "ek-allow-list AND (aws-iid OR azure-msi)"
proofs = ["pop", "residency", "result"]

[[agent]]
class = "clerk"
match = {{ device_classes = ["kiosk"], name = "clerk-*" }}
proofs = ["pop", "residency", "result", "owner-binding"]
scope = ["read"]
lifetime_days = 1
decommission_days = 30
token_proof = "dpop"

[ek]
allow_list = "eks.txt"
roots = ["maker.pem"]
packaged_roots = false
accept_expired = true

[aws]
certificates = {{ eu-central-1 = "aws-eu-central-1.pem" }}
accounts = ["123456789012"]

[azure]
jwks = "azure.json"
issuers = ["https://sts.windows.net/tenant/"]
audience = "api://enrolment"
resources = ["/subscriptions/one/*"]
"""
SMALL = """
id = "small"
[[device]]
class = "default"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
"""


def policy(text: str = FULL) -> EnrolmentPolicy:
    return load_enrolment_policy(text, "policy.toml")


def facts(serial: str = "X-1", label: str = "", anchor: bytes = ANCHOR) -> DeviceFacts:
    return DeviceFacts(label=label, anchors=frozenset({anchor}), serial=serial)


def test_everything_that_may_be_said_is_read() -> None:
    read = policy()
    kiosk, shut, cloud = read.devices
    (clerk,) = read.agents

    assert kiosk.accept is TrustTier.AFFIRMING
    assert kiosk.scope == ("door:open", "print")
    assert (kiosk.lifetime, kiosk.overlap) == (timedelta(days=7), timedelta(hours=12))
    assert kiosk.trust.names == {TrustName.IDEVID, TrustName.TPM_EK}
    assert (kiosk.decommission, shut.decommission) == (timedelta(days=1000), None)
    assert shut.trust.ways == ()
    assert cloud.proofs == {ProofKind.POP, ProofKind.RESIDENCY, ProofKind.RESULT}
    assert clerk.decommission == timedelta(days=30)
    assert clerk.token_proof is TokenProof.DPOP
    assert (read.ek_allow_list, read.ek_roots) == ("eks.txt", ("maker.pem",))
    assert not read.packaged_roots
    assert read.accept_expired_ek
    assert read.aws is not None
    assert read.aws.certificates == (("eu-central-1", "aws-eu-central-1.pem"),)
    assert read.azure is not None
    assert read.azure.audience == "api://enrolment"
    assert wanted_of_evidence(read.devices) == {ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT}


@pytest.mark.parametrize("word", ['"wpt"', '""', "true", '["dpop"]', "{}"])
def test_token_proof_is_one_that_can_be_judged(word: str) -> None:
    text = FULL.replace('token_proof = "dpop"', f"token_proof = {word}")
    with pytest.raises(MalformedInput, match=r"token_proof: wanted none or dpop"):
        policy(text)


def test_packaged_default_lets_in_what_has_a_manufacturers_identity() -> None:
    text = (resources.files("verifier.policies") / "enrolment-default.toml").read_text()
    read = load_enrolment_policy(text, "packaged")
    one = read.device_class(facts())

    assert one.name == "default"
    assert one.trust.ways == (frozenset({TrustName.IDEVID}),)
    assert one.proofs == {ProofKind.POP, ProofKind.RESIDENCY, ProofKind.EVIDENCE}
    assert one.accept is TrustTier.WARNING
    assert one.profile == "ldevid"
    assert (one.lifetime, one.overlap) == (None, timedelta(hours=1))
    assert not read.admits_strangers
    assert read == DEFAULT_POLICY


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        (facts("KSK-7", "kiosks"), "kiosk"),
        (facts("KSK-7", ""), "kiosk"),
        (facts("KSK-7", "others"), "cloud"),
        (facts("KSK-7", "kiosks", bytes(32)), "cloud"),
        (facts("ksk-7", "kiosks"), "cloud"),
        (facts("SHUT-1"), "shut"),
    ],
)
def test_first_class_that_matches_is_taken(about: DeviceFacts, wanted: str) -> None:
    assert policy().device_class(about).name == wanted


def test_device_of_no_class_is_refused() -> None:
    only_kiosks = SMALL.replace('class = "default"', 'class = "default"\nmatch = {serial = "A*"}')

    with pytest.raises(IdentityMismatch) as caught:
        policy(only_kiosks).device_class(facts("B"))

    assert caught.value.code is RefusalCode.ENROLMENT_CLASS_UNKNOWN


def test_known_devices_class_may_be_gone_or_not_under_that_label() -> None:
    assert policy().device_class_named("kiosk", "kiosks").name == "kiosk"
    for name, label in (("other", ""), ("kiosk", "others")):
        with pytest.raises(IdentityMismatch) as caught:
            policy().device_class_named(name, label)
        assert caught.value.code is RefusalCode.ENROLMENT_CLASS_UNKNOWN


def test_agents_have_classes_by_device_class_and_name() -> None:
    assert policy().agent_class("kiosk", "clerk-1").name == "clerk"
    for device_class, name in (("cloud", "clerk-1"), ("kiosk", "waiter")):
        with pytest.raises(IdentityMismatch) as caught:
            policy().agent_class(device_class, name)
        assert caught.value.code is RefusalCode.ENROLMENT_CLASS_UNKNOWN


def test_every_missing_proof_is_told_at_once() -> None:
    kiosk = policy().devices[0]

    with pytest.raises(ProofsMissing) as caught:
        kiosk.require_shown({ProofKind.POP}, {TrustName.IDEVID})

    assert caught.value.code is RefusalCode.PROOFS_MISSING
    assert caught.value.missing == (
        "residency",
        "evidence",
        "aibom",
        "provider-endorsement",
        "initial trust: idevid AND tpm-ek",
    )
    assert all(name in caught.value.reason for name in caught.value.missing)


def test_missing_trust_alone_has_its_own_code() -> None:
    with pytest.raises(ProofsMissing) as caught:
        policy().devices[0].require_shown(set(ProofKind), {TrustName.TPM_EK})

    assert caught.value.code is RefusalCode.INITIAL_TRUST_MISSING


def test_known_device_needs_no_initial_trust_but_every_proof() -> None:
    kiosk = policy().devices[0]

    kiosk.require_shown(set(ProofKind), None)
    with pytest.raises(ProofsMissing):
        kiosk.require_shown({ProofKind.POP}, None)


@pytest.mark.parametrize("trust", [set(TrustName), None])
def test_class_with_empty_trust_denies_whatever_is_shown(trust: set[TrustName] | None) -> None:
    with pytest.raises(VerificationError) as caught:
        policy().devices[1].require_shown(set(ProofKind), trust)

    assert caught.value.code is RefusalCode.ENROLMENT_DENIED


def test_agents_missing_proofs_are_told_at_once() -> None:
    with pytest.raises(ProofsMissing) as caught:
        policy().agents[0].require_shown({ProofKind.RESIDENCY})

    assert caught.value.missing == ("pop", "result", "owner-binding")


@pytest.mark.parametrize(
    ("trust", "strangers"),
    [("idevid", False), ("idevid AND tpm-ek", False), ("tpm-ek", True), ("idevid OR tpm-ek", True)],
)
def test_strangers_are_admitted_only_where_a_class_can_be_met_without_idevid(
    trust: str, *, strangers: bool
) -> None:
    read = policy(SMALL.replace('"idevid"', f'"{trust}"'))

    assert read.admits_strangers is strangers


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (("", ""), 0, "policy is empty"),
        (('id = "small"', "id = 5"), 2, "id: wanted a text"),
        (('id = "small"', "id = "), 0, "not TOML"),
        (('id = "small"', 'id = "s"\nuser = 1'), 3, "user: unknown key"),
        (("[[device]]", "[device]"), 3, "at least one"),
        (("[[device]]", "[[devices]]"), 3, "unknown key; did you mean device"),
        (('class = "default"', 'clas = "default"'), 4, "unknown key; did you mean class"),
        (('class = "default"', 'class = "De fault"'), 4, "is not 1 to 63"),
        (('initial_trust = "idevid"', ""), 3, "wanted an expression"),
        (('"idevid"', '"idevid OR aws-iid"'), 5, "never enough"),
        (('"idevid"', '"idevid OR ek-allow-list"'), 5, "needs allow_list"),
        (('"idevid"', '"idevid AND aws-iid"'), 5, r"needs \[aws\]"),
        (('"idevid"', '"idevid AND azure-msi"'), 5, r"needs \[azure\]"),
        (("proofs", "#"), 3, "nothing is said"),
        (('"pop", ', ""), 6, "pop is missing"),
        (('"residency", ', ""), 6, "residency is missing"),
        ((', "evidence"', ""), 6, "neither evidence nor result"),
        (('"evidence"', '"result", "aibom"'), 6, "parts of evidence"),
        (('"evidence"', '"evidence", "owner-binding"'), 6, "for classes of agents"),
        (('"evidence"', '"evidense"'), 6, "did you mean evidence"),
        (("proofs", 'accept = "contraindicated"\nproofs'), 6, "wanted affirming or warning"),
        (("proofs", "lifetime_days = 0\nproofs"), 6, "integer from 1"),
        (("proofs", "overlap_hours = -1\nproofs"), 6, "integer from 0"),
        (("proofs", 'scope = ["a b"]\nproofs'), 6, "without blanks"),
        (("proofs", 'match = {serial = ""}\nproofs'), 6, "wanted a text"),
        (("proofs", 'match = {anchors = ["00"]}\nproofs'), 6, "1 bytes, wanted 32"),
        (("proofs", 'match = {labels = ["a/b"]}\nproofs'), 6, "EST label"),
        (("proofs", 'match = {label = ["a"]}\nproofs'), 6, "did you mean labels"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_reason(
    change: tuple[str, str], line: int, reason: str
) -> None:
    text = SMALL.replace(*change, 1) if change[0] else ""

    with pytest.raises(MalformedInput, match=reason) as caught:
        policy(text)

    assert caught.value.code is RefusalCode.POLICY_INVALID
    assert not line or f"policy.toml, line {line}:" in caught.value.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('accounts = ["123456789012"]', ""), "any AWS customer"),
        (('"123456789012"', '"1234"'), "account of 12 digits"),
        (('certificates = { eu-central-1 = "aws-eu-central-1.pem" }', ""), "region = file"),
        (('issuers = ["https://sts.windows.net/tenant/"]', ""), "any Azure customer"),
        (('resources = ["/subscriptions/one/*"]', ""), "any Azure customer"),
        (('audience = "api://enrolment"', ""), "audience: wanted a text"),
        (('class = "shut"', 'class = "kiosk"'), "a class kiosk already"),
        (('roots = ["maker.pem"]', ""), "needs roots in"),
        (
            ('"clerk"\nmatch', '"clerk"\ninitial_trust = "idevid"\nmatch'),
            "initial_trust: unknown key",
        ),
        (('proofs = ["pop", "residency", "result", "owner', 'proofs = ["owner'), "anybody's key"),
    ],
)
def test_what_would_let_in_strangers_is_refused(change: tuple[str, str], reason: str) -> None:
    assert change[0] in FULL
    with pytest.raises(MalformedInput, match=reason):
        policy(FULL.replace(*change, 1))


def test_one_policy_has_a_bounded_number_of_classes() -> None:
    one = SMALL.partition("[[device]]")[2]
    many = 'id = "many"' + "".join(
        "\n[[device]]" + one.replace("default", f"c{number}") for number in range(257)
    )

    with pytest.raises(MalformedInput, match="more than 256 classes"):
        policy(many)
