"""Configuration: one TOML file, overridden by ``VERIFIER_<SECTION>_<KEY>``, to frozen values.

Every key has a default, so an empty file is a working verifier on one machine. An unknown or
wrong key is an error that names the key, the file and the nearest known key. This module parses
text that it is given; only ``verifier.main`` and the commands open files.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args, get_type_hints

from attestation.limits import MAX_ENROLMENT_BYTES
from attestation.wire.ear_values import EAR_DIALECTS, EarProfile
from verifier.errors import SettingsInvalid

DEFAULT_FILE: Final = Path("/etc/verifier/verifier.toml")
"""Read when no ``--config`` is given; it may be absent."""

ENVIRONMENT_PREFIX: Final = "VERIFIER_"

Value = str | int | float | bool | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """[server]: the HTTPS door.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        tls_certificate: PEM chain of the server; default ``<keys>/tls.cert.pem``.
        tls_key: PEM key of the server; default ``<keys>/tls.key.pem``.
        client_ca: Further PEM files with CAs whose client certificates may connect, beside the
            manufacturers' roots and the device CA.
        public_url: Where devices reach us, e.g. ``https://verifier.example:8443``; AI agents whose
            class says ``token_proof`` sign it.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    tls_certificate: str = ""
    tls_key: str = ""
    client_ca: tuple[str, ...] = ()
    public_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """[store]: SQLAlchemy URL, ``sqlite:///…`` or ``postgresql+psycopg://…``."""

    url: str = "sqlite:////var/lib/verifier/verifier.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """[keys]: where signing and nonce keys live (mode 0700)."""

    directory: str = "/var/lib/verifier/keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySettings:
    """[authority]: where new keys of issuing CAs are made, and what opens them.

    Attributes:
        backend: ``file`` or ``pkcs11``: where ``verifier ca`` makes the next key.
        passphrase_credential: Name of the systemd credential with the key files' passphrase.
        passphrase_file: File (0600) with it; default ``<keys>/authority.passphrase``.
        unencrypted: Make the next key file without passphrase. Who copies it has the key.
        pkcs11_module: The token maker's PKCS#11 library.
        pkcs11_token: The token's label.
        pin_credential: Name of the systemd credential with the token's user PIN.
        pin_file: File (0600) with it.
    """

    backend: str = "file"
    passphrase_credential: str = ""
    passphrase_file: str = ""
    unencrypted: bool = False
    pkcs11_module: str = ""
    pkcs11_token: str = ""
    pin_credential: str = ""
    pin_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """[trust]: whose devices may enrol, and the trust domain of issued identities.

    Attributes:
        manufacturer_roots: PEM files with roots (and intermediates) of device makers.
        manufacturer_crls: Revocation lists of those makers, PEM or DER; read at the start, never
            fetched.
        result_keys: JWK sets (JSON) of other verifiers whose results devices may show; read at
            the start, never fetched.
        trust_domain: SPIFFE trust domain for issued certificates.
        certificate_days: Days that an issued certificate lasts, if its class does not say.
        token_minutes: Minutes that a workload identity token lasts.
        owner_days: Days that an owner may take to sign for an AI agent.
    """

    manufacturer_roots: tuple[str, ...] = ()
    manufacturer_crls: tuple[str, ...] = ()
    result_keys: tuple[str, ...] = ()
    trust_domain: str = "attestation.internal"
    certificate_days: int = 90
    token_minutes: int = 60
    owner_days: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """[policy]: how evidence is judged and results are turned into decisions.

    Attributes:
        appraisal: A packaged policy's name (``linux-server``, ``development``) or a TOML file.
        revocation: A packaged revocation policy's name (``revocation-default``) or a TOML file.
        rego: A Rego file for decisions; empty takes the packaged one.
        allow_warning: Whether the packaged decision policy allows devices that are *warning*.
        enrolment: A packaged enrolment policy's name (``enrolment-default``) or a TOML file.
        profiles: Certificate profiles: the packaged ones (``profiles-default``) or a TOML file.
        nonce_ttl_s: Seconds a challenge lives; 0 takes the appraisal policy's own value. Must be
            below the results' lifetime.
    """

    appraisal: str = "linux-server"
    enrolment: str = "enrolment-default"
    profiles: str = "profiles-default"
    revocation: str = "revocation-default"
    rego: str = ""
    allow_warning: bool = False
    nonce_ttl_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """[mqtt]: results to a broker, queries from it; off while ``host`` is empty.

    Attributes:
        host: Broker's name; its certificate must carry it.
        port: Broker's TLS port.
        ca: PEM file with the broker's CA.
        certificate: PEM client certificate; its CN is the broker's user name.
        key: PEM key of ``certificate``.
        client_id: MQTT client identifier.
        prefix: Topic prefix.
        queries_per_s: Queries answered per requester and second.
    """

    host: str = ""
    port: int = 8883
    ca: str = ""
    certificate: str = ""
    key: str = ""
    client_id: str = "verifier"
    prefix: str = "att/v1"
    queries_per_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """[limits]: what one client may cost.

    Attributes:
        body_bytes: Largest request body.
        body_seconds: Longest time a body may take to arrive.
        requests_per_s: Sustained requests per client (certificate, else address).
        burst: Requests a client may make at once.
        connections: Connections held at once, over all clients.
        strangers_per_s: Sustained requests to enrol per second from all clients together that show
            no certificate; only where the enrolment policy lets such devices enrol.
    """

    body_bytes: int = MAX_ENROLMENT_BYTES
    body_seconds: float = 20.0
    requests_per_s: float = 20.0
    burst: int = 60
    connections: int = 20_000
    strangers_per_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSettings:
    """[results]: how results are written, how long they are believed and kept.

    Attributes:
        dialect: In which of EAR's dialects: ``draft-03``, ``draft-02``, ``veraison``.
        lifetime_s: Seconds until a result expires; 0 takes the appraisal policy's own value.
        history_days: Days that old results are kept.
        developer: ``ear.verifier-id`` developer.
    """

    dialect: str = EarProfile.DRAFT_03.word
    lifetime_s: float = 0.0
    history_days: int = 90
    developer: str = "https://device-attestation.invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiSettings:
    """[pki]: what relying parties fetch: revocation lists, OCSP answers, CA certificates.

    Attributes:
        url: Where they reach us, e.g. ``http://pki.example:8080``; told in every certificate.
            Empty: certificates do not say.
        http_host: Address of a plain HTTP door that serves nothing else.
        http_port: Its port; 0 for no such door.
        crl_hours: Hours until a revocation list ends; a newer one is made after half of that, and
            whenever something was revoked.
    """

    url: str = ""
    http_host: str = "127.0.0.1"
    http_port: int = 0
    crl_hours: float = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration."""

    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    keys: KeySettings = field(default_factory=KeySettings)
    authority: AuthoritySettings = field(default_factory=AuthoritySettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    results: ResultSettings = field(default_factory=ResultSettings)
    pki: PkiSettings = field(default_factory=PkiSettings)


_URL: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,253}(?:/[A-Za-z0-9._~\-]{1,64}){0,8}")

_SECTIONS: Final[dict[str, type]] = get_type_hints(Settings)


def load_settings(text: str, origin: str, environment: Mapping[str, str]) -> Settings:
    """Build settings from TOML text and the environment.

    Args:
        text: TOML; may be empty.
        origin: The file's name, for errors.
        environment: ``VERIFIER_<SECTION>_<KEY>`` wins over the file; lists are comma separated.

    Raises:
        SettingsInvalid: For broken TOML, an unknown section or key, or a wrong value.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"{origin} is not TOML: {error}") from error
    chosen: dict[str, dict[str, Value]] = {name: {} for name in _SECTIONS}
    for section, table in document.items():
        if section not in _SECTIONS:
            raise SettingsInvalid(
                f"[{section}] in {origin} is unknown{_nearest(section, _SECTIONS)}"
            )
        if not isinstance(table, dict):
            raise SettingsInvalid(f"{section} in {origin} must be a table: [{section}]")
        types_by_key = get_type_hints(_SECTIONS[section])
        for key, value in table.items():
            where = f"{section}.{key} in {origin}"
            if key not in types_by_key:
                raise SettingsInvalid(f"{where} is unknown{_nearest(key, types_by_key)}")
            chosen[section][key] = _checked(value, types_by_key[key], where)
    _override(chosen, environment)
    built = {name: kind(**chosen[name]) for name, kind in _SECTIONS.items()}
    settings = Settings(**built)
    _check_ranges(settings, origin)
    return settings


def _override(chosen: dict[str, dict[str, Value]], environment: Mapping[str, str]) -> None:
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section not in _SECTIONS:
            continue  # VERIFIER_CONFIG and the like belong to the commands
        types_by_key = get_type_hints(_SECTIONS[section])
        if key not in types_by_key:
            raise SettingsInvalid(
                f"{name} in the environment is unknown{_nearest(key, types_by_key)}"
            )
        chosen[section][key] = _from_text(text, types_by_key[key], f"{name} in the environment")


def _checked(value: object, kind: object, where: str) -> Value:
    """Return ``value`` if it is of ``kind``; whole numbers pass for seconds."""
    if isinstance(kind, types.GenericAlias):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise SettingsInvalid(f"{where} must be a list of strings, not {value!r}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is kind and isinstance(value, str | int | float | bool):
        return value
    raise SettingsInvalid(f"{where} must be {_word(kind)}, not {value!r}")


def _from_text(text: str, kind: object, where: str) -> Value:
    if isinstance(kind, types.GenericAlias):
        return tuple(item.strip() for item in text.split(",") if item.strip())
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
    except ValueError as error:
        raise SettingsInvalid(f"{where} must be {_word(kind)}, not {text!r}") from error
    if kind is bool:
        if text.lower() not in {"true", "false"}:
            raise SettingsInvalid(f"{where} must be true or false, not {text!r}")
        return text.lower() == "true"
    return text


def _check_ranges(settings: Settings, origin: str) -> None:
    positive = {
        "limits.body_bytes": settings.limits.body_bytes,
        "limits.body_seconds": settings.limits.body_seconds,
        "limits.requests_per_s": settings.limits.requests_per_s,
        "limits.burst": settings.limits.burst,
        "limits.connections": settings.limits.connections,
        "limits.strangers_per_s": settings.limits.strangers_per_s,
        "trust.certificate_days": settings.trust.certificate_days,
        "trust.token_minutes": settings.trust.token_minutes,
        "trust.owner_days": settings.trust.owner_days,
        "results.history_days": settings.results.history_days,
        "mqtt.queries_per_s": settings.mqtt.queries_per_s,
        "pki.crl_hours": settings.pki.crl_hours,
    }
    for name, number in positive.items():
        if number <= 0:
            raise SettingsInvalid(f"{name} in {origin} must be above 0, not {number}")
    ports = {
        "server.port": settings.server.port,
        "mqtt.port": settings.mqtt.port,
        "pki.http_port": settings.pki.http_port,
    }
    for name, port in ports.items():
        if not 0 <= port <= 65_535:  # noqa: PLR2004 - TCP
            raise SettingsInvalid(f"{name} in {origin} must be within 0..65535, not {port}")
    words: dict[str, tuple[str, Collection[str]]] = {
        "authority.backend": (settings.authority.backend, ("file", "pkcs11")),
        "results.dialect": (settings.results.dialect, EAR_DIALECTS),
    }
    for name, (word, known) in words.items():
        if word not in known:
            wanted = " or ".join(f'"{one}"' for one in known)
            raise SettingsInvalid(f"{name} in {origin} must be {wanted}, not {word!r}")
    urls = {"pki.url": settings.pki.url, "server.public_url": settings.server.public_url}
    for name, url in urls.items():
        if url and not _URL.fullmatch(url):
            raise SettingsInvalid(
                f"{name} in {origin} must be http://NAME or https://NAME, perhaps with a port and "
                f"a path, without a slash at the end, not {url!r}"
            )
    if not settings.store.url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise SettingsInvalid(
            f"store.url in {origin} must begin with sqlite:/// or postgresql+psycopg://"
        )


def _nearest(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _word(kind: object) -> str:
    words: dict[object, str] = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
    }
    return words.get(kind, str(get_args(kind) or kind))
