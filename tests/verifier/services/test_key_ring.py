"""Result and nonce keys: rotation, publication, files that others cannot read."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography import x509

from attestation.errors import SignatureInvalid
from attestation.wire.ear import verify_ear_jwt
from tests.simulators.made_authority import copy_authority
from verifier.errors import SettingsInvalid
from verifier.keys.authority import SERVICE_CA, load_authority
from verifier.keys.files import check_directory, write_secret
from verifier.keys.ring import KeyRing, KeyState
from verifier.keys.setup import initialise
from verifier.sources import SystemEntropy

AT = datetime(2026, 3, 1, tzinfo=UTC)
LIFETIME = timedelta(minutes=5)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    copy_authority(path, AT)
    initialise(path, hostnames=("verifier.example",), at=AT, entropy=SystemEntropy())
    return path


def kids(ring: KeyRing, at: datetime) -> set[str]:
    return {key["kid"] for key in ring.key_set(at, LIFETIME)["keys"]}


def rotate(ring: KeyRing, at: datetime) -> None:
    ring.rotate(at, LIFETIME, os.urandom(32))


def test_kid_is_the_rfc_7638_thumbprint(directory: Path) -> None:
    for key in KeyRing(directory).key_set(AT, LIFETIME)["keys"]:
        members = {name: key[name] for name in ("crv", "kty", "x", "y")}
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
        wanted = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
        assert key["kid"] == wanted
        assert "d" not in key


def test_signature_is_by_the_current_key_and_says_so(directory: Path) -> None:
    ring = KeyRing(directory)
    header = jwt.get_unverified_header(ring.sign_claims({"a": 1}))

    current = next(entry.kid for entry in ring.entries if entry.state is KeyState.CURRENT)
    assert header == {"alg": "ES256", "typ": "JWT", "kid": current}


def test_next_key_is_published_before_it_signs(directory: Path) -> None:
    ring = KeyRing(directory)
    before = kids(ring, AT)

    rotate(ring, AT)

    assert jwt.get_unverified_header(ring.sign_claims({}))["kid"] in before


def test_retired_key_is_published_as_long_as_its_results_live(directory: Path) -> None:
    ring = KeyRing(directory)
    retired = jwt.get_unverified_header(ring.sign_claims({}))["kid"]
    rotate(ring, AT)

    assert retired in kids(ring, AT + LIFETIME - timedelta(seconds=1))
    assert retired not in kids(ring, AT + LIFETIME)


def test_rotation_deletes_keys_that_nobody_needs(directory: Path) -> None:
    ring = KeyRing(directory)
    for number in range(4):
        rotate(ring, AT + number * LIFETIME)

    assert len(list(directory.glob("ear-*.key.pem"))) == len(ring.entries) == 3
    assert len(list(directory.glob("nonce-*.key"))) == len(ring.nonce_keys) == 2


def test_running_ring_follows_a_rotation_by_another_process(directory: Path) -> None:
    running, command = KeyRing(directory), KeyRing(directory)
    old_nonce_key = running.nonce_keys[0]

    rotate(command, AT)

    assert running.entries == command.entries
    assert running.nonce_keys[1] == old_nonce_key


def test_running_ring_soon_signs_with_the_key_that_another_process_rotated_in(
    directory: Path,
) -> None:
    running = KeyRing(directory)
    before = jwt.get_unverified_header(running.sign_claims({}))["kid"]

    rotate(KeyRing(directory), AT)
    patience = time.monotonic() + 10
    while jwt.get_unverified_header(running.sign_claims({}))["kid"] == before:
        assert time.monotonic() < patience, "the ring goes on signing with a retired key"
        time.sleep(0.01)


def test_result_of_another_ring_is_not_believed(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    copy_authority(other, AT)
    initialise(other, hostnames=(), at=AT, entropy=SystemEntropy())

    with pytest.raises(SignatureInvalid):
        verify_ear_jwt(
            KeyRing(other).sign_claims({}), KeyRing(directory).key_set(AT, LIFETIME), at=AT
        )


def test_initialising_again_changes_nothing(directory: Path) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    assert initialise(directory, hostnames=(), at=AT, entropy=SystemEntropy()) == ()

    after = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert after == before


def test_secrets_are_for_the_owner_only(directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in [*directory.rglob("*.key*"), *directory.rglob("*.passphrase")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_directory_or_key_open_to_others_is_refused(directory: Path) -> None:
    key = next(directory.glob("*.key.pem"))
    key.chmod(0o640)
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        check_directory(directory)
    key.chmod(0o600)
    directory.chmod(0o750)
    with pytest.raises(SettingsInvalid, match="chmod 700"):
        check_directory(directory)


def test_service_ca_lasts_ten_years_and_signs_leaves_only(directory: Path) -> None:
    certificate = load_authority(directory, SERVICE_CA).certificate

    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert (certificate.not_valid_after_utc - AT).days == 3653


def test_broken_ring_is_named(directory: Path) -> None:
    (directory / "keyring.json").write_text("{}")

    with pytest.raises(SettingsInvalid, match=r"keyring\.json"):
        KeyRing(directory)


def test_foreign_key_beside_a_ca_certificate_is_refused(directory: Path) -> None:
    (directory / "tls.key.pem").rename(directory / "service-ca.key.pem")

    with pytest.raises(SettingsInvalid, match="not the certificate of"):
        load_authority(directory, SERVICE_CA)


def test_key_file_that_the_disk_takes_only_half_of_is_never_put_in_place(tmp_path: Path) -> None:
    """A full disk takes what fits and says nothing until it is asked again."""
    place = tmp_path / "keyring.json"
    write_secret(place, b"old ring")
    script = (
        "import resource, sys; from pathlib import Path; from verifier.keys.files import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_secret(Path(sys.argv[1]), bytes(6000))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", script, str(place)], capture_output=True, text=True, check=False
    )

    assert "state-unwritable" in ended.stderr
    assert place.read_bytes() == b"old ring"
