from __future__ import annotations

from pathlib import Path

import pytest

from attestation.tpm import templates
from device_agent.errors import SettingsInvalid
from device_agent.settings import (
    load_settings,
    parse_settings,
    require_verifier,
    show_settings,
)


def refused(text: str = "", environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        parse_settings(text, "agent.toml", environment or {})
    return caught.value.reason


def test_the_defaults_need_no_file() -> None:
    settings = parse_settings("", "agent.toml", {})

    assert settings.tpm.tcti == "device:/dev/tpmrm0"
    assert settings.state.directory == "/var/lib/device-agent"
    assert settings.origins["tpm.tcti"] == "default"


def test_default_handles_are_those_of_the_templates() -> None:
    tpm = parse_settings("", "agent.toml", {}).tpm

    assert tpm.idevid_handle == templates.IDEVID_HANDLE
    assert tpm.iak_handle == templates.IAK_HANDLE
    assert tpm.ldevid_handle == templates.LDEVID_HANDLE
    assert tpm.srk_handle == templates.SRK_HANDLE
    assert tpm.idevid_certificate_nv == templates.IDEVID_CERTIFICATE_NV
    assert tpm.iak_certificate_nv == templates.IAK_CERTIFICATE_NV


def test_the_environment_overrides_the_file_and_both_override_the_default() -> None:
    text = '[verifier]\nurl = "https://file:1"\nread_timeout_s = 3\n[tpm]\niak_handle = 0x81020009'
    environment = {
        "DEVICE_AGENT_VERIFIER_URL": "https://env:2",
        "DEVICE_AGENT_MQTT_KEEPALIVE_S": "0x10",
        "DEVICE_AGENT_MQTT_ENABLED": "false",
        "PATH": "/bin",
    }

    settings = parse_settings(text, "agent.toml", environment)

    assert settings.verifier.url == "https://env:2"
    assert settings.verifier.read_timeout_s == 3.0
    assert settings.tpm.iak_handle == 0x81020009
    assert settings.mqtt.keepalive_s == 16
    origins = {item.key: item.origin for item in show_settings(settings)}
    assert origins["verifier.url"] == "DEVICE_AGENT_VERIFIER_URL"
    assert origins["verifier.read_timeout_s"] == "file"
    assert origins["verifier.ca_file"] == "default"


def test_an_unknown_key_is_named_with_file_line_and_nearest_key() -> None:
    reason = refused('[log]\nlevel = "info"\n\n[verifier]\nurll = "https://x"\n')

    assert reason.startswith("agent.toml:5: verifier.urll is not a setting")
    assert "did you mean 'url'?" in reason


def test_an_unknown_section_is_named_with_its_line() -> None:
    assert "agent.toml:2: [verifer] is not a section; did you mean 'verifier'?" in refused(
        "\n[verifer]\nurl = 'x'"
    )


def test_a_dotted_key_is_found_too() -> None:
    assert refused('\nverifier.urll = "x"').startswith("agent.toml:2: ")


def test_an_unknown_environment_variable_is_refused() -> None:
    reason = refused(environment={"DEVICE_AGENT_VERIFIER_URI": "https://x"})

    assert "DEVICE_AGENT_VERIFIER_URI names no setting" in reason
    assert "DEVICE_AGENT_VERIFIER_URL" in reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mqtt]\nport = '8883'", "agent.toml:2: mqtt.port is '8883', wanted a whole number"),
        ("[mqtt]\nport = true", "mqtt.port is True, wanted a whole number"),
        ("[mqtt]\nport = 70000", "mqtt.port is 70000, wanted 1 to 65535"),
        ("[mqtt]\nenabled = 1", "mqtt.enabled is 1, wanted true or false"),
        ("[verifier]\nurl = 3", "verifier.url is 3, wanted a text"),
        ("[verifier]\nurl = 'http://x'", "wanted https://host"),
        ("[verifier]\nurl = 'https://x/path'", "wanted https://host"),
        ("[verifier]\nread_timeout_s = nan", "verifier.read_timeout_s is nan"),
        ("[log]\nlevel = 'loud'", "wanted one of debug, info, warning, error"),
        ("[evidence]\ninterval_min_s = 9\ninterval_max_s = 3", "interval_min_s is above"),
        ("[mqtt]\nprefix = 'att/+/x'", "wanted plain topic levels"),
        ("[mqtt]\nenabled = true", "needs mqtt.host and mqtt.ca_file"),
        ("[retry]\nbase_s = 5\ncap_s = 1", "retry.base_s is above"),
        ("[verifier\n", "is not TOML"),
        ("verifier = 3", "[verifier] is not a section"),
    ],
)
def test_a_wrong_value_is_refused_by_name(text: str, words: str) -> None:
    assert words in refused(text)


def test_a_wrong_environment_value_is_refused_by_its_variable() -> None:
    reason = refused(environment={"DEVICE_AGENT_MQTT_PORT": "many"})

    assert reason == "DEVICE_AGENT_MQTT_PORT: mqtt.port is 'many', wanted a whole number"


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="does not exist"):
        load_settings(tmp_path / "absent.toml", {})
    with pytest.raises(SettingsInvalid, match="does not exist"):
        load_settings(None, {"DEVICE_AGENT_CONFIG": str(tmp_path / "absent.toml")})


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[mqtt]\nport = 1883\n")

    assert load_settings(None, {"DEVICE_AGENT_CONFIG": str(file)}).mqtt.port == 1883


def test_a_verifier_must_be_named_before_it_is_asked() -> None:
    with pytest.raises(SettingsInvalid, match=r"verifier\.url is not set"):
        require_verifier(parse_settings("", "agent.toml", {}))


def test_the_example_file_lists_every_setting_with_its_default() -> None:
    file = Path(__file__).parents[2] / "deploy" / "examples" / "device-agent.toml"
    text = file.read_text()
    settings = parse_settings(text, str(file), {})
    defaults = {
        item.key: item.value for item in show_settings(parse_settings("", "agent.toml", {}))
    }

    for item in show_settings(settings):
        assert item.origin == "file", f"{item.key} is not in {file}"
        if item.key not in {"verifier.url", "verifier.ca_file"}:
            assert item.value == defaults[item.key], item.key
