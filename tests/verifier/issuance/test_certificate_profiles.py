"""Certificate profiles are data: what stands in a certificate comes from a file."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from attestation.agent_certificate import AgentClaims, read_agent_claims
from attestation.errors import AttestationError, MalformedInput
from attestation.identity import AgentName, DeviceId
from attestation.refusals import RefusalCode as Code
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import VerifierSite
from tests.verifier.appraisal.courtroom import NOW
from tests.verifier.issuance.factory_floor import FactoryFloor, owner_ca
from verifier.errors import SettingsInvalid
from verifier.issuance.agent_certificates import agent_certificate
from verifier.issuance.certificate_profile import (
    DEFAULT_PROFILES,
    CertificateProfile,
    require_profiles,
)
from verifier.issuance.enrol import issue_ldevid
from verifier.issuance.enrolment_policy import DEFAULT_POLICY, AgentClass, ProofKind
from verifier.issuance.profile_file import load_profiles
from verifier.issuance.profiles import certificate_serial

SERIAL = certificate_serial(b"\xab" * 16)
WEEK = timedelta(days=7)
CLAIMS = AgentClaims(
    owner="mailto:o@x", capabilities=("a",), locator="urn:x", validation_methods=("wpt",)
)


def profile(text: str, name: str = "x") -> CertificateProfile:
    return load_profiles(f"[profile.{name}]\n{text}", "test")[name]


def agents_certificate(
    chosen: CertificateProfile = DEFAULT_PROFILES["agent"], lifetime: timedelta = WEEK
) -> x509.Certificate:
    return agent_certificate(
        DeviceId("box-0042"),
        AgentName("planner"),
        ec.derive_private_key(5, ec.SECP256R1()).public_key(),
        owner_ca(),
        claims=CLAIMS,
        trust_domain="fleet.example",
        serial=SERIAL,
        at=NOW,
        lifetime=lifetime,
        profile=chosen,
    )


def ldevid(chosen: CertificateProfile, lifetime: timedelta = WEEK) -> x509.Certificate:
    return issue_ldevid(
        FactoryFloor().enrol(),
        owner_ca(),
        trust_domain="fleet.example",
        serial=SERIAL,
        at=NOW,
        lifetime=lifetime,
        profile=chosen,
    )


def test_packaged_file_says_what_the_default_is() -> None:
    text = (resources.files("verifier.policies") / "profiles-default.toml").read_text()
    assert load_profiles(text, "packaged") == DEFAULT_PROFILES


def test_certificate_of_a_device_is_as_its_profile_says() -> None:
    chosen = profile(
        'holder = "device"\nkey_usage = ["digital-signature", "key-agreement"]\n'
        'extended_key_usage = ["client-auth", "eap-over-lan"]\nbackdate_minutes = 30\n'
    )

    extensions = ldevid(chosen).extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)

    assert (usage.critical, usage.value.key_agreement, usage.value.content_commitment) == (
        True,
        True,
        False,
    )
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.14"),
    ]
    # No certificate begins before its CA does.
    began = owner_ca().certificate.not_valid_before_utc
    assert ldevid(chosen).not_valid_before_utc == max(NOW - timedelta(minutes=30), began)


def test_certificate_of_an_agent_tells_what_its_profile_says() -> None:
    chosen = profile('holder = "agent"\nextensions = ["capabilities"]\n')

    assert read_agent_claims(agents_certificate(chosen)) == AgentClaims(capabilities=("a",))
    assert read_agent_claims(agents_certificate()) == CLAIMS
    silent = profile('holder = "agent"\nextensions = []\n')
    assert read_agent_claims(agents_certificate(silent)) == AgentClaims()


def test_agents_subject_is_no_user_name_and_no_device() -> None:
    certificate = agents_certificate()

    assert [(one.oid.dotted_string, one.value) for one in certificate.subject] == [
        ("2.5.4.11", "box-0042"),
        ("2.5.4.41", "planner"),
    ]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [
        x509.UniformResourceIdentifier("spiffe://fleet.example/device/box-0042/agent/planner")
    ]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_profile_of_one_kind_makes_no_certificate_of_the_other() -> None:
    with pytest.raises(ValueError, match="not for certificates of agents"):
        agents_certificate(DEFAULT_PROFILES["ldevid"])
    with pytest.raises(ValueError, match="not for certificates of devices"):
        ldevid(DEFAULT_PROFILES["agent"])


def test_bounds_of_lifetime_hold_for_every_certificate() -> None:
    chosen = profile('holder = "agent"\nlifetime_hours_min = 24\nlifetime_days_max = 8\n')
    agents_certificate(chosen)
    for lifetime in (timedelta(hours=23), timedelta(days=9)):
        with pytest.raises(ValueError, match="forbids"):
            agents_certificate(chosen, lifetime)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "profile"),
        ("x", "not TOML"),
        ("[profile]\n", "profile"),
        ("[other.x]\nholder = 'agent'", "other: unknown key"),
        ("[profile.X]\nholder = 'agent'", "line 1: profile.X"),
        ("[profile.x]\n", "profile.x"),
        ("[profile.x]\nholder = 'robot'", "line 2: profile.x.holder"),
        ("[profile.x]\nholder = 'agent'\nkey_usge = []", "did you mean key_usage"),
        ("[profile.x]\nholder = 'agent'\nkey_usage = ['key-cert-sign']", "key_usage"),
        ("[profile.x]\nholder = 'agent'\nkey_usage = ['key-agreement']", "digital-signature"),
        ("[profile.x]\nholder = 'agent'\nkey_usage = []", "key_usage"),
        ("[profile.x]\nholder = 'agent'\nextended_key_usage = ['any']", "extended_key_usage"),
        ("[profile.x]\nholder = 'agent'\nextended_key_usage = []", "extended_key_usage"),
        (
            "[profile.x]\nholder = 'agent'\nextended_key_usage = ['client-auth', 'client-auth']",
            "twice",
        ),
        ("[profile.x]\nholder = 'device'\nextensions = ['owner']", "line 3"),
        ("[profile.x]\nholder = 'agent'\nextensions = ['owners']", "did you mean owner"),
        ("[profile.x]\nholder = 'agent'\nlifetime_days_max = 0", "lifetime_days_max"),
        ("[profile.x]\nholder = 'agent'\nlifetime_hours_min = 49\nlifetime_days_max = 2", "line 3"),
        ("[profile.x]\nholder = 'agent'\nbackdate_minutes = -1", "backdate_minutes"),
        ("[profile.x]\nholder = 'agent'\ndescription = 5", "description"),
        ("# " + "x" * 300_000, "at most"),
        ("\n".join(f"[profile.p{n}]\nholder = 'agent'" for n in range(65)), "1 to 64"),
    ],
)
def test_what_is_no_profile_is_refused_by_name_and_line(text: str, why: str) -> None:
    with pytest.raises(MalformedInput, match=why) as caught:
        load_profiles(text, "profiles.toml")
    assert caught.value.code is Code.PROFILE_INVALID
    assert caught.value.reason.startswith("profiles.toml")


@given(st.text(max_size=80))
def test_hostile_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(AttestationError):
        load_profiles(text, "test")


AGENT_CLASS = AgentClass(name="assistant", proofs=frozenset({ProofKind.POP}))


def test_classes_and_profiles_fit_together() -> None:
    policy = replace(DEFAULT_POLICY, agents=(AGENT_CLASS,))
    require_profiles(policy, DEFAULT_PROFILES, timedelta(days=90))

    for agent, why in (
        (replace(AGENT_CLASS, profile="other"), "known are agent, ldevid"),
        (replace(AGENT_CLASS, profile="ldevid"), "holders device"),
        (replace(AGENT_CLASS, lifetime=timedelta(days=4000)), "takes 1 hours to 3660 days"),
    ):
        with pytest.raises(MalformedInput, match=why) as caught:
            require_profiles(replace(policy, agents=(agent,)), DEFAULT_PROFILES, timedelta(days=90))
        assert caught.value.code is Code.PROFILE_INVALID
    with pytest.raises(MalformedInput, match="class default"):
        require_profiles(policy, DEFAULT_PROFILES, timedelta(days=4000))
    (device,) = policy.devices
    with pytest.raises(MalformedInput, match="class default names profile agent"):
        require_profiles(
            replace(policy, devices=(replace(device, profile="agent"),)),
            DEFAULT_PROFILES,
            timedelta(days=90),
        )


def test_verifier_with_a_class_without_profile_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text('[profile.other]\nholder = "device"\n')
    site = VerifierSite(tmp_path, SoftManufacturer(), extra=f'profiles = "{file}"')
    with pytest.raises(SettingsInvalid, match="class default names profile ldevid"):
        site.start()
    file.unlink()
    with pytest.raises(SettingsInvalid, match="neither packaged"):
        site.start()


def test_devices_certificate_follows_the_file_that_the_settings_name(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text('[profile.ldevid]\nholder = "device"\nextended_key_usage = ["eap-over-lan"]\n')
    with VerifierSite(tmp_path, SoftManufacturer(), extra=f'profiles = "{file}"') as site:
        device = site.device()
        assert device.enrol().status == 201
        certificate = x509.load_pem_x509_certificates(device.chain_pem)[0]

    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.ObjectIdentifier("1.3.6.1.5.5.7.3.14")]
