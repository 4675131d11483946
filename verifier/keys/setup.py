"""Make the keys of a new verifier; what is there already is left alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from verifier.keys.authority import (
    DEVICE_CA,
    SERVICE_CA,
    TLS,
    create_authority,
    create_tls_certificate,
    load_authority,
)
from verifier.keys.files import check_directory, make_directory
from verifier.keys.ring import NONCE_KEY_BYTES, RING_FILE, KeyRing
from verifier.ports import Entropy


def initialise(
    directory: Path, *, hostnames: tuple[str, ...], at: datetime, entropy: Entropy
) -> tuple[str, ...]:
    """Make what is missing; safe to run again.

    Args:
        directory: The key directory; made with mode 0700.
        hostnames: For the TLS certificate; none makes no TLS certificate.
        at: Now.
        entropy: For the nonce key.

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
    if not (directory / f"{DEVICE_CA}.cert.pem").exists():
        create_authority(directory, DEVICE_CA, "device-attestation device CA", at)
        made.append("device CA")
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
