"""Host facts that travel as claims: context for people, never proof."""

from __future__ import annotations

import hmac
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attestation.evidence import ClaimValue

_MACHINE_ID_DOMAIN: Final = b"device-attestation/machine-id/v1"
"""Key of the machine id's digest: the id itself must not leave the machine (machine-id(5))."""

_MOST_BYTES: Final = 256


class HostFacts:
    """Implements :class:`device_agent.ports.HostClaims`; reads once per boot, then remembers.

    Args:
        agent_version: Version of this package.
        boot_id_file: ``/proc/sys/kernel/random/boot_id``.
        machine_id_file: ``/etc/machine-id``.
    """

    def __init__(
        self,
        *,
        agent_version: str,
        boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id"),
        machine_id_file: Path = Path("/etc/machine-id"),
    ) -> None:
        claims: dict[str, ClaimValue] = {
            "agent-version": agent_version,
            "kernel-release": platform.release(),
            "machine": platform.machine(),
        }
        if boot_id := _line(boot_id_file):
            claims["boot-id"] = boot_id
        if machine_id := _line(machine_id_file):
            claims["machine-id-digest"] = hmac.digest(
                _MACHINE_ID_DOMAIN, machine_id.encode(), "sha256"
            )
        self._claims = claims

    @property
    def boot_id(self) -> str:
        """The kernel's random id of this boot; empty if it could not be read."""
        return str(self._claims.get("boot-id", ""))

    def read(self) -> Mapping[str, ClaimValue]:
        """Return the facts; what cannot be read is left out."""
        return dict(self._claims)


def _line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
