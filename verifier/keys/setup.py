"""Make the keys of a new verifier; what is there already is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from verifier.keys.authority import (
    SERVICE_CA,
    TLS,
    create_authority,
    create_tls_certificate,
    load_authority,
)
from verifier.keys.ca_keys import CaKeys
from verifier.keys.ceremony import DEFAULT_NAME, Ceremony
from verifier.keys.files import check_directory, make_directory
from verifier.keys.offline_root import OFFLINE_ROOT, make_root
from verifier.keys.register import register_path
from verifier.keys.ring import NONCE_KEY_BYTES, RING_FILE, KeyRing
from verifier.ports import Entropy
from verifier.settings import AuthoritySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityPlan:
    """How a new authority is made.

    Attributes:
        settings: The section [authority].
        environment: For systemd's ``CREDENTIALS_DIRECTORY``.
        name: The authority's name.
        root_to: Folder of the root; None for one in the key directory.
        root_passphrase: File with the root's passphrase; None makes a random one in its folder.
        without: Make none: the root is elsewhere, and ``verifier ca request`` comes next.
    """

    settings: AuthoritySettings = field(default_factory=AuthoritySettings)
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = DEFAULT_NAME
    root_to: Path | None = None
    root_passphrase: Path | None = None
    without: bool = False


def initialise(
    directory: Path,
    *,
    hostnames: tuple[str, ...],
    at: datetime,
    entropy: Entropy,
    plan: AuthorityPlan | None = None,
) -> tuple[str, ...]:
    """Make what is missing; safe to run again.

    Args:
        directory: The key directory; made with mode 0700.
        hostnames: For the TLS certificate; none makes no TLS certificate.
        at: Now.
        entropy: For the nonce key, serial numbers, salts and passphrases.
        plan: How a new authority is made; None for the default.

    Returns:
        What was made, in words; empty if everything was there.

    Raises:
        Unavailable: If the directory cannot be written.
        SettingsInvalid: If what is there cannot be used.
    """
    made: list[str] = []
    make_directory(directory)
    if not (directory / RING_FILE).exists():
        KeyRing.create(directory, at, entropy.take(NONCE_KEY_BYTES))
        made.append("result and nonce keys")
    chosen = plan or AuthorityPlan()
    if register_path(directory) is None and not chosen.without:
        made += found_authority(directory, chosen, at=at, entropy=entropy)
    if hostnames:
        if (directory / f"{SERVICE_CA}.cert.pem").exists():
            authority = load_authority(directory, SERVICE_CA)
        else:
            authority = create_authority(directory, SERVICE_CA, "device-attestation service CA", at)
            made.append("service CA")
        create_tls_certificate(directory, authority, hostnames, at)
        made.append(f"TLS certificate for {', '.join(hostnames)} ({TLS}.cert.pem)")
    check_directory(directory)
    return tuple(made)


def found_authority(
    directory: Path, plan: AuthorityPlan, *, at: datetime, entropy: Entropy
) -> tuple[str, ...]:
    """Make a root, and an issuing CA below it that issues from now on.

    An authority that is there goes on below: what issued until now is retired.

    Args:
        directory: The key directory; exists.
        plan: How.
        at: Now.
        entropy: For serial numbers, salts and passphrases.

    Returns:
        What was made, in words.

    Raises:
        Unavailable: If a key cannot be made or written.
        SettingsInvalid: If there is a root in the folder already.
    """
    folder = plan.root_to or directory / OFFLINE_ROOT
    keys = CaKeys(directory, plan.settings, plan.environment)
    try:
        root = make_root(folder, plan.name, plan.root_passphrase, at=at, entropy=entropy)
        ceremony = Ceremony(directory, plan.settings, keys, entropy)
        ceremony.trust(root.certificate, at)
        entry = ceremony.rotate(root, plan.name, at)
    finally:
        keys.close()
    away = "carry this folder away, key and passphrase apart, and delete it here"
    return (
        f"root CA in {folder}: {away} (docs/certificate-authority.md)",
        f"issuing CA {entry.id}, key in {entry.key.kind.value} {entry.key.name}",
    )
