"""A verifier that asks for IMA lists: its appraisal policy and its runtime policy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.simulators.verifier_site import VerifierSite
from verifier.ports import DocumentKind
from verifier.services.reference_documents import ReferenceDocuments

RUNTIME_POLICY = "box"
DENIED = b"/usr/bin/miner"
POLICY = """
id = "runtime-test/1"
description = "the boot chain must replay, and only known files may run"
[quote]
selection = "sha256:0,1,2,3,4,5,6,7,8,9,10"
[log]
separators = false
[lifetimes]
attest_interval_s = 1
[[pcrs]]
indices = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
claim = "hardware"
known = 2
unknown = 33
missing = 33
match = "log"
coverage = "reported"
[[pcrs]]
indices = [10]
claim = "executables"
known = 2
unknown = 33
missing = 33
match = "log"
coverage = "reported"
[ima]
policy = "box"
"""


def digest_of(path: bytes) -> bytes:
    """The content of every file here follows from its name."""
    return hashlib.sha256(b"content of " + path).digest()


def write_policy(folder: Path) -> str:
    """Write the appraisal policy; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "runtime-test.toml"
    path.write_text(POLICY)
    return str(path)


def know_files(site: VerifierSite, paths: Sequence[bytes], *, version: int = 1) -> None:
    """Put the runtime policy into the verifier's store: these files are known, one is denied."""
    files = "\n".join(f"sha256:{digest_of(path).hex()}  {path.decode()}" for path in paths)
    text = (
        f'name = "{RUNTIME_POLICY}"\nversion = {version}\ndescription = "files of a test"\n'
        f"files = '''\n{files}\n'''\n"
        f"denied = '''\nsha256:{digest_of(DENIED).hex()}  a miner\n'''\n"
    )
    ReferenceDocuments(site.running.store).put(
        DocumentKind.RUNTIME_POLICY, RUNTIME_POLICY, text, datetime.now(UTC)
    )
