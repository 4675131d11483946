"""The packaged bundle: whole, all of it usable, and judged as openssl judges it."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.ek.certificate import MakerCertificate
from attestation.ek.extensions import Quirk
from attestation.errors import UntrustedEndorsement
from verifier.endorsement.ek_path import find_path
from verifier.sources import packaged_vendor_roots

FOLDER = resources.files("verifier.endorsement") / "vendors"
BUNDLE = packaged_vendor_roots()
AT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("file", ["roots.pem", "intermediates.pem"])
def test_readme_names_the_digest_of_each_file(file: str) -> None:
    digest = hashlib.sha256((FOLDER / file).read_bytes()).hexdigest()

    assert re.search(rf"`{file}`.*`{digest}`", (FOLDER / "README.md").read_text())


def test_licence_of_the_bundle_goes_with_it_and_with_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    licence = (FOLDER / "LICENSE.BSD-3-Clause").read_text(encoding="utf-8")

    assert "verifier/endorsement/vendors/LICENSE.BSD-3-Clause" in project["license-files"]
    assert "BSD-3-Clause" in project["license"].split(" AND ")
    assert re.search(r"^Copyright \(c\) \d{4}, \S", licence, re.MULTILINE)
    assert "retain the above copyright notice" in licence
    assert "OF THE POSSIBILITY OF SUCH DAMAGE." in licence


def test_every_certificate_of_the_bundle_is_used() -> None:
    assert BUNDLE.refused == ()
    assert (len(BUNDLE.roots), len(BUNDLE.intermediates)) == (26, 143)


def test_certificates_that_strict_readers_refuse_are_there_by_name() -> None:
    odd = [one.quirks for one in BUNDLE.roots if one.quirks]

    assert sorted(map(sorted, odd)) == [
        *[[Quirk.SET_ORDER]] * 4,
        [Quirk.SIGNATURE_PARAMETERS],
    ]


def test_self_issued_roots_signed_themselves() -> None:
    own = [one for one in BUNDLE.roots if one.is_self_issued]

    assert len(own) == 23
    assert all(one.signed_by(one) for one in own)
    assert all(one.signature_algorithm.hash is not HashAlgorithm.SHA1 for one in own)


def ours(one: MakerCertificate) -> bool:
    try:
        find_path(one, (), BUNDLE, AT, accept_expired=False)
    except UntrustedEndorsement:
        return False
    return True


def openssl_verifies(one: MakerCertificate, folder: Path) -> bool:
    """Whether ``openssl verify`` builds the path too, from the same files at the same moment."""
    leaf = folder / "leaf.pem"
    leaf.write_bytes(pem(one))
    command = [
        *("openssl", "verify", "-attime", str(int(AT.timestamp())), "-partial_chain"),
        *("-trusted", str(FOLDER / "roots.pem"), "-untrusted", str(FOLDER / "intermediates.pem")),
        str(leaf),
    ]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def pem(one: MakerCertificate) -> bytes:
    body = base64.encodebytes(one.raw)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def test_intermediates_lead_to_a_root_where_openssl_says_so(tmp_path: Path) -> None:
    chosen = BUNDLE.intermediates[::6]

    assert {one.display_name: ours(one) for one in chosen} == {
        one.display_name: openssl_verifies(one, tmp_path) for one in chosen
    }


def test_every_intermediate_leads_to_a_root() -> None:
    assert all(ours(one) for one in BUNDLE.intermediates)
