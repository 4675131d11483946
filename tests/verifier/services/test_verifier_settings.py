"""Configuration: defaults, overrides, and a clear error for each wrong key."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import VerifierSite
from verifier.errors import SettingsInvalid
from verifier.settings import Settings, load_settings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "verifier.toml"


def defaults_as_toml() -> str:
    """Every key at its default, as the example must have it."""
    lines: list[str] = []
    settings = Settings()
    for section in fields(settings):
        built = getattr(settings, section.name)
        lines.append(f"[{section.name}]")
        lines += [f"# {item.name} = {as_toml(getattr(built, item.name))}" for item in fields(built)]
        lines.append("")
    return "\n".join(lines)


def as_toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_empty_file_gives_the_defaults() -> None:
    assert load_settings("", "v.toml", {}) == Settings()


def test_file_and_then_environment_override() -> None:
    text = '[server]\nport = 1\n[trust]\nmanufacturer_roots = ["a"]\n[limits]\nbody_seconds = 3\n'

    settings = load_settings(
        text,
        "v.toml",
        {
            "VERIFIER_SERVER_PORT": "2",
            "VERIFIER_TRUST_MANUFACTURER_ROOTS": "b, c",
            "VERIFIER_POLICY_ALLOW_WARNING": "true",
            "VERIFIER_CONFIG": "elsewhere",
            "HOME": "/",
        },
    )

    assert settings.server.port == 2
    assert settings.trust.manufacturer_roots == ("b", "c")
    assert settings.policy.allow_warning is True
    assert settings.limits.body_seconds == 3.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sever]", "[sever] in v.toml is unknown; did you mean 'server'?"),
        ("[server]\nprot = 1", "server.prot in v.toml is unknown; did you mean 'port'?"),
        ("[server]\nport = '1'", "server.port in v.toml must be a whole number, not '1'"),
        ("[server]\nport = true", "server.port in v.toml must be a whole number, not True"),
        ("[server]\nport = 70000", "server.port in v.toml must be within 0..65535, not 70000"),
        ("[limits]\nburst = 0", "limits.burst in v.toml must be above 0, not 0"),
        ("[trust]\nmanufacturer_roots = 'x'", "must be a list of strings, not 'x'"),
        ("[authority]\nbackend = 'hsm'", 'must be "file" or "pkcs11", not \'hsm\''),
        (
            "[results]\ndialect = 'draft-3'",
            'results.dialect in v.toml must be "veraison" or "draft-02" or "draft-03", not',
        ),
        ("[store]\nurl = 'mysql://x'", "must begin with sqlite:/// or postgresql+psycopg://"),
        ("server = 1", "server in v.toml must be a table: [server]"),
        ("[server", "v.toml is not TOML"),
    ],
)
def test_wrong_key_is_named_with_its_file(text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(text, "v.toml", {})

    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VERIFIER_SERVER_PROT", "1"),
        ("VERIFIER_SERVER_PORT", "one"),
        ("VERIFIER_POLICY_ALLOW_WARNING", "yes"),
    ],
)
def test_wrong_environment_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        load_settings("", "v.toml", {name: value})


def test_example_file_shows_every_default() -> None:
    shown = EXAMPLE.read_text()
    uncommented = "\n".join(
        line.removeprefix("# ") for line in shown.splitlines() if " = " in line or line[:1] == "["
    )

    assert defaults_as_toml() in shown
    assert load_settings(uncommented, "example", {}) == Settings()
    assert tomllib.loads(shown).keys() == tomllib.loads(uncommented).keys()


def test_nonces_that_outlive_their_results_are_refused(tmp_path: Path) -> None:
    """A result is believed from when its nonce was issued; it must not be over before."""
    site = VerifierSite(tmp_path, SoftManufacturer(), extra="nonce_ttl_s = 600.0")

    with pytest.raises(SettingsInvalid, match="nonce_ttl_s must be below"):
        site.start()
