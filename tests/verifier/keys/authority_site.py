"""A key directory with its settings, for tests of the authority's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.simulators.made_authority import copy_authority
from verifier.issuance.profiles import Issuer
from verifier.keys.ca_keys import CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.credential_authority import CredentialAuthority
from verifier.keys.offline_root import OFFLINE_ROOT, open_root
from verifier.settings import AuthoritySettings
from verifier.sources import SystemEntropy

AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class StoppedClock:
    """A clock that says what it is told."""

    at: datetime = AT

    def now(self) -> datetime:
        return self.at


@dataclass
class Keys:
    """One key directory, an authority in it, its root in a folder elsewhere."""

    directory: Path
    root_folder: Path
    settings: AuthoritySettings = field(default_factory=AuthoritySettings)
    environment: Mapping[str, str] = field(default_factory=dict)
    clock: StoppedClock = field(default_factory=StoppedClock)

    @classmethod
    def made(cls, folder: Path) -> Keys:
        directory, root = folder / "keys", folder / "carried-away"
        copy_authority(directory, AT)
        (directory / OFFLINE_ROOT).rename(root)
        return cls(directory=directory, root_folder=root)

    @property
    def ca_keys(self) -> CaKeys:
        return CaKeys(self.directory, self.settings, self.environment)

    @property
    def ceremony(self) -> Ceremony:
        return Ceremony(self.directory, self.settings, self.ca_keys, SystemEntropy())

    def authority(self) -> CredentialAuthority:
        return CredentialAuthority(self.directory, self.ca_keys, self.clock)

    def root(self) -> Issuer:
        return open_root(self.root_folder, None)
