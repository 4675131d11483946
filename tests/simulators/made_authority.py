"""A credential authority that was made once for the whole run: sealing keys takes its time."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

from verifier.keys.setup import AuthorityPlan, found_authority
from verifier.sources import SystemEntropy


@cache
def _made(at: datetime) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="authority-")
    found_authority(Path(folder.name), AuthorityPlan(), at=at, entropy=SystemEntropy())
    return folder


def copy_authority(directory: Path, at: datetime) -> None:
    """Put the authority made at ``at`` (or on its day) into a key directory."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copytree(_made(day).name, directory, dirs_exist_ok=True)
    directory.chmod(0o700)
