"""Settings: one TOML file and the environment become one frozen value, each key with its origin.

A key that does not exist, or has the wrong type or range, is refused with its name, file, line and
the nearest key that does exist. Nothing is guessed and nothing is ignored.

The environment overrides the file: ``DEVICE_AGENT_<SECTION>_<KEY>``, e.g.
``DEVICE_AGENT_VERIFIER_URL``. ``DEVICE_AGENT_CONFIG`` names the file itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from device_agent.errors import SettingsInvalid

DEFAULT_PATH: Final = Path("/etc/device-agent/device-agent.toml")
ENVIRONMENT_PREFIX: Final = "DEVICE_AGENT_"
IMA_PCR: Final = 10
CONFIG_VARIABLE: Final = "DEVICE_AGENT_CONFIG"

Value = str | int | float | bool
_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _key(
    default: Value,
    what: str,
    *,
    least: float | None = None,
    most: float | None = None,
    of: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401 - dataclasses.field is typed so
    """Declare one key: its default, what it means, its range or its words."""
    return field(default=default, metadata={"what": what, "least": least, "most": most, "of": of})


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmSettings:
    """``[tpm]``: how to reach the TPM and where its keys and certificates are."""

    tcti: str = _key("device:/dev/tpmrm0", "TCTI; swtpm:host=…,port=… or tabrmd: in tests")
    template: str = _key("H-2", "TCG template of IDevID and IAK", of=("H-1", "H-2", "H-3"))
    srk_handle: int = _key(
        0x81000001, "persistent handle of the storage root key", least=0x81000000
    )
    idevid_handle: int = _key(0x81020000, "persistent handle of the IDevID key", least=0x81000000)
    iak_handle: int = _key(0x81020001, "persistent handle of the IAK", least=0x81000000)
    ldevid_handle: int = _key(0x81000010, "persistent handle of the LDevID key", least=0x81000000)
    ldevid_2_handle: int = _key(
        0x81000011, "persistent handle of its other slot, for key rotation", least=0x81000000
    )
    idevid_certificate_nv: int = _key(0x01C90000, "NV index of the IDevID certificate", least=1)
    iak_certificate_nv: int = _key(0x01C90001, "NV index of the IAK certificate", least=1)
    chain_file: str = _key("", "PEM file with the manufacturer's intermediate certificates, if any")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierSettings:
    """``[verifier]``: where the verifier is and what proves that it is the verifier."""

    url: str = _key("", "https://host:port of the verifier; required")
    ca_file: str = _key("", "PEM file with the CA of the verifier's TLS certificate; required")
    connect_timeout_s: float = _key(5.0, "seconds to connect and shake hands", least=0.1, most=120)
    read_timeout_s: float = _key(15.0, "seconds for a whole answer", least=0.1, most=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """``[mqtt]``: the device's own presence on a broker (MQTT 5, mutual TLS)."""

    enabled: bool = _key(False, "publish the status document")  # noqa: FBT003 - it is the value
    host: str = _key("", "broker host; required when enabled")
    port: int = _key(8883, "broker port", least=1, most=65535)
    ca_file: str = _key("", "PEM file with the CA of the broker's certificate; required if enabled")
    prefix: str = _key("att/v1", "topic prefix")
    keepalive_s: int = _key(30, "seconds between keep-alives", least=5, most=3600)
    will_delay_s: int = _key(5, "seconds before the broker tells that we are lost", most=3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentSettings:
    """``[enrolment]``: what the device shows of itself before the verifier knows it."""

    initial_trust: str = _key("idevid", "idevid, tpm-ek or both", of=("idevid", "tpm-ek", "both"))
    aws_document: str = _key("", "file with AWS's signed instance identity document, if any")
    azure_token: str = _key("", "file with Azure's managed identity token, if any")
    door: str = _key("cbor", "the verifier's own door, or EST (RFC 7030)", of=("cbor", "est"))
    est_label: str = _key("", "the EST label, if any; with door = est")
    result: str = _key("", "shown in place of evidence: file with a result, or state directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """``[evidence]``: what is measured and how often evidence is sent."""

    firmware_log: str = _key(
        "/sys/kernel/security/tpm0/binary_bios_measurements", "firmware log file; empty for none"
    )
    ima_list: str = _key(
        "/sys/kernel/security/ima/binary_runtime_measurements", "IMA list file; empty for none"
    )
    interval_min_s: float = _key(1.0, "never attest more often than this", least=0.05, most=86400)
    interval_max_s: float = _key(3600.0, "never wait longer than this", least=0.05, most=86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """``[agent]``: the AI agent on this device; measured only where root and aibom are set."""

    root: str = _key("", "the AI agent's folder; empty for none")
    aibom: str = _key("", "its AIBOM (CycloneDX JSON); required with root")
    pcr: int = _key(13, "the PCR that its files are measured into", least=8, most=15)
    folder: str = _key("", "where agents find certificate and token; empty: in state.directory")
    exclude: str = _key(
        "", "patterns under root that are not measured, ':' between them, e.g. cache:**/*.log"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """``[retry]``: how faults are answered (full jitter, doubling)."""

    base_s: float = _key(1.0, "first back-off, doubled with each failure", least=0.01, most=60)
    cap_s: float = _key(120.0, "longest back-off", least=0.1, most=3600)
    refused_s: float = _key(600.0, "pause after a refusal only a person can end", least=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalSettings:
    """``[renewal]``: when certificates are renewed and the LDevID key is exchanged."""

    share: float = _key(0.667, "renew when so much of a life is over", least=0.05, most=0.95)
    spread: float = _key(0.1, "spread that moment over so much of a life", most=0.5)
    rotate_after_s: float = _key(0.0, "exchange the LDevID key at this age, seconds; 0 for never")
    clock_skew_s: float = _key(300.0, "seconds that our clock may differ from the verifier's")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """``[state]``: where the daemon keeps what must survive a restart."""

    directory: str = _key("/var/lib/device-agent", "directory, owned by the daemon's user")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """``[log]``: the daemon's own log, on standard error."""

    level: str = _key("info", "least level written", of=("debug", "info", "warning", "error"))
    format: str = _key("auto", "json, console, or by terminal", of=("auto", "json", "console"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the device agent can be told.

    Attributes:
        origins: ``section.key`` to ``default``, ``file`` or the environment variable's name.
    """

    tpm: TpmSettings = field(default_factory=TpmSettings)
    verifier: VerifierSettings = field(default_factory=VerifierSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    enrolment: EnrolmentSettings = field(default_factory=EnrolmentSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    renewal: RenewalSettings = field(default_factory=RenewalSettings)
    state: StateSettings = field(default_factory=StateSettings)
    log: LogSettings = field(default_factory=LogSettings)
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


_SECTIONS: Final[Mapping[str, type]] = {
    "tpm": TpmSettings,
    "verifier": VerifierSettings,
    "mqtt": MqttSettings,
    "enrolment": EnrolmentSettings,
    "evidence": EvidenceSettings,
    "agent": AgentSettings,
    "retry": RetrySettings,
    "renewal": RenewalSettings,
    "state": StateSettings,
    "log": LogSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSetting:
    """One effective setting for ``device-agent settings --show``."""

    key: str
    value: Value
    origin: str
    what: str


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the settings file and the environment.

    Args:
        path: The file; None for ``DEVICE_AGENT_CONFIG`` or else the default path, which alone
            may be absent.
        environment: Usually ``os.environ``.

    Raises:
        SettingsInvalid: If the file cannot be read, or any key is wrong.
    """
    named = path or (Path(text) if (text := environment.get(CONFIG_VARIABLE)) else None)
    file = named or DEFAULT_PATH
    try:
        content = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if named is not None:
            raise _invalid(f"{file} does not exist") from error
        content = ""
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(f"{file} cannot be read: {error}") from error
    return parse_settings(content, str(file), environment)


def parse_settings(text: str, file: str, environment: Mapping[str, str]) -> Settings:
    """Make settings of TOML text and environment; ``file`` is only for messages.

    Raises:
        SettingsInvalid: If the text is not TOML, or any key is unknown, ill-typed or out of range.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(f"{file} is not TOML: {error}") from error
    given = {name: dict(_DEFAULTS[name]) for name in _SECTIONS}
    origins = {f"{name}.{key}": "default" for name in _SECTIONS for key in _DEFAULTS[name]}
    for section, table in document.items():
        place = f"{file}{_line_of(text, section, None)}"
        if section not in _SECTIONS or not isinstance(table, dict):
            raise _invalid(
                f"{place}: [{section}] is not a section{_nearest(section, list(_SECTIONS))}"
            )
        for key, value in table.items():
            where = f"{file}{_line_of(text, section, key)}"
            given[section][key] = _typed(section, key, value, where)
            origins[f"{section}.{key}"] = "file"
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section, key = _named(variable)
        given[section][key] = _typed(section, key, _from_text(section, key, value), variable)
        origins[f"{section}.{key}"] = variable
    sections: dict[str, Any] = {name: cls(**given[name]) for name, cls in _SECTIONS.items()}
    settings = Settings(**sections, origins=MappingProxyType(origins))
    _check_together(settings, file)
    return settings


def show_settings(settings: Settings) -> tuple[ShownSetting, ...]:
    """List every effective setting with its origin and meaning, in file order."""
    return tuple(
        ShownSetting(
            key=f"{section}.{item.name}",
            value=getattr(getattr(settings, section), item.name),
            origin=settings.origins.get(f"{section}.{item.name}", "default"),
            what=item.metadata["what"],
        )
        for section, cls in _SECTIONS.items()
        for item in fields(cls)
    )


_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    name: {item.name: item.default for item in fields(cls)} for name, cls in _SECTIONS.items()
}
_METADATA: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    name: {item.name: item.metadata for item in fields(cls)} for name, cls in _SECTIONS.items()
}


def _invalid(reason: str) -> SettingsInvalid:
    return SettingsInvalid(reason)


def _nearest(word: str, choices: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    found = get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; there are {', '.join(choices)}"


def _line_of(text: str, section: str, key: str | None) -> str:
    """Return ``:12`` for the line that sets the key, as far as a scan by line can tell."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            current = header[1].strip("\"'")
            if key is None and current == section:
                return f":{number}"
        elif assignment := re.match(r"\s*([\w\-\"'.]+)\s*=", line):
            name = assignment[1].strip("\"'")
            dotted = f"{current}.{name}" if current else name
            if dotted == (section if key is None else f"{section}.{key}"):
                return f":{number}"
    return ""


def _named(variable: str) -> tuple[str, str]:
    """Split ``DEVICE_AGENT_VERIFIER_URL`` into ``verifier`` and ``url``."""
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section in _SECTIONS
        for key in _DEFAULTS[section]
    }
    if variable not in known:
        raise _invalid(
            f"environment variable {variable} names no setting{_nearest(variable, list(known))}"
        )
    return known[variable]


def _from_text(section: str, key: str, text: str) -> Value:
    kind = type(_DEFAULTS[section][key])
    try:
        if kind is bool:
            return _TRUTH[text.strip().lower()]
        if kind is int:
            return int(text, 0)
        if kind is float:
            return float(text)
    except (ValueError, KeyError):
        pass
    return text


def _typed(section: str, key: str, value: object, where: str) -> Value:
    """Check one value against its declaration and return it in the declared type."""
    name = f"{section}.{key}"
    if key not in _DEFAULTS[section]:
        raise _invalid(f"{where}: {name} is not a setting{_nearest(key, list(_DEFAULTS[section]))}")
    kind = type(_DEFAULTS[section][key])
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or not isinstance(value, str | int | float | bool):
        raise _invalid(f"{where}: {name} is {value!r}, wanted {_KINDS[kind]}")
    rule = _METADATA[section][key]
    if isinstance(value, str):
        if rule["of"] and value not in rule["of"]:
            raise _invalid(f"{where}: {name} is {value!r}, wanted one of {', '.join(rule['of'])}")
    elif (
        not (0 if rule["least"] is None else rule["least"])
        <= value
        <= (0xFFFFFFFF if rule["most"] is None else rule["most"])
    ):
        raise _invalid(
            f"{where}: {name} is {value}, wanted {rule['least'] or 0} to "
            f"{'any' if rule['most'] is None else rule['most']}"
        )
    return value


def _check_together(settings: Settings, file: str) -> None:
    """Check what one key alone cannot say."""
    url = settings.verifier.url
    if url and not re.fullmatch(r"https://[^/?#@\s]+/?", url):
        raise _invalid(f"{file}: verifier.url is {url!r}, wanted https://host or https://host:port")
    if settings.evidence.interval_min_s > settings.evidence.interval_max_s:
        raise _invalid(f"{file}: evidence.interval_min_s is above evidence.interval_max_s")
    if bool(settings.agent.root) != bool(settings.agent.aibom):
        raise _invalid(f"{file}: agent.root and agent.aibom go together")
    if settings.agent.pcr == IMA_PCR:
        raise _invalid(f"{file}: agent.pcr is {IMA_PCR}, which the kernel's IMA extends")
    if settings.renewal.share + settings.renewal.spread > 1:
        raise _invalid(f"{file}: renewal.share and renewal.spread go beyond the end of a life")
    if settings.retry.base_s > settings.retry.cap_s:
        raise _invalid(f"{file}: retry.base_s is above retry.cap_s")
    if re.search(r"[+#\x00\s]", settings.mqtt.prefix) or settings.mqtt.prefix.strip("/") == "":
        raise _invalid(
            f"{file}: mqtt.prefix is {settings.mqtt.prefix!r}, wanted plain topic levels"
        )
    if settings.mqtt.enabled and not (settings.mqtt.host and settings.mqtt.ca_file):
        raise _invalid(f"{file}: mqtt.enabled needs mqtt.host and mqtt.ca_file")


def require_verifier(settings: Settings) -> None:
    """Check that a verifier is named at all; for the commands that talk to one.

    Raises:
        SettingsInvalid: If ``verifier.url`` or ``verifier.ca_file`` is not set.
    """
    for key in ("url", "ca_file"):
        if not getattr(settings.verifier, key):
            raise _invalid(
                f"verifier.{key} is not set; set it in {DEFAULT_PATH} or by "
                f"{ENVIRONMENT_PREFIX}VERIFIER_{key.upper()}"
            )
