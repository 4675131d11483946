"""``verifier ca``: the ceremonies as commands, from first to recovery, and what they log."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.simulators.command_line import Run, runner
from tests.simulators.made_authority import copy_authority
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.softhsm import PIN, tokens
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.issuance.certificate_profile import DEFAULT_PROFILES
from verifier.keys.authority import DEVICE_CA, create_authority
from verifier.keys.authority_status import authority_status
from verifier.keys.offline_root import OFFLINE_ROOT
from verifier.keys.ring import KeyRing
from verifier.settings import load_settings
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store


@dataclass
class Host:
    """A verifier's host: settings, keys, store."""

    folder: Path
    command: Run

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def root(self) -> Path:
        return self.keys / OFFLINE_ROOT

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/verifier.db"

    def configure(self, extra: str = "") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "verifier.toml").write_text(
            f'[store]\nurl = "{self.url}"\n[keys]\ndirectory = "{self.keys}"\n{extra}'
        )

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        return self.command("--config", self.folder / "verifier.toml", *words)

    def ca(self, *words: str | Path) -> Any:
        code, said, errors = self.run("ca", *words, "--json")
        assert code == 0, errors
        return json.loads(said)

    def refused(self, *words: str | Path) -> tuple[int, str]:
        code, _, errors = self.run("ca", *words)
        assert errors.count("\n") == 1, errors
        return code, errors.split(": ")[1]

    def status(self) -> dict[str, Any]:
        return json.loads(self.run("ca", "status", "--json")[1])

    def states(self) -> list[str]:
        return [one["state"] for one in self.status()["authorities"]]

    def codes(self) -> list[str]:
        return [one["code"] for one in self.status()["findings"]]

    def acts(self) -> list[str]:
        store = open_store(self.url, with_outbox=False)
        entries = [one for one in store.log_entries() if one.kind == "authority"]
        return [json.loads(one.entry)["act"] for one in entries]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd)


@pytest.fixture
def host(tmp_path: Path, command: Run) -> Host:
    made = Host(tmp_path / "host", command)
    made.configure()
    copy_authority(made.keys, datetime.now(UTC))
    KeyRing.create(made.keys, datetime.now(UTC), os.urandom(32))
    migrate(made.url)
    return made


def secret(path: Path, text: str = "a passphrase of a backup") -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def test_init_makes_a_root_to_carry_away_and_warns_until_it_is_gone(
    tmp_path: Path, command: Run
) -> None:
    host = Host(tmp_path / "new", command)
    host.configure()

    code, said, errors = host.run("init")

    assert code == 0, errors
    assert "carry this folder away" in said
    assert host.states() == ["root", "current"]
    assert host.acts() == ["founded"]
    assert host.codes() == ["ca-root-online", "ca-passphrase-beside-key"]
    for path in host.root.iterdir():
        path.unlink()
    assert host.codes() == ["ca-passphrase-beside-key"]
    told = {one["name"]: one for one in json.loads(host.run("check", "--json")[1])}
    assert told["authority"]["verdict"] == "warning"
    assert "ca-passphrase-beside-key" in told["authority"]["reason"]


def test_init_puts_the_root_where_it_is_told_to(tmp_path: Path, command: Run) -> None:
    host, medium = Host(tmp_path / "new", command), tmp_path / "medium"
    host.configure()
    word = secret(tmp_path / "word")

    host.run("init", "--root-to", medium, "--root-passphrase", word, "--name", "Example Fleet")

    assert sorted(one.name for one in medium.iterdir()) == ["root.cert.pem", "root.key.pem"]
    assert stat.S_IMODE((medium / "root.key.pem").stat().st_mode) == 0o600
    assert "ca-root-online" not in host.codes()
    assert host.status()["authorities"][1]["subject"].startswith("CN=Example Fleet issuing CA ")
    rotated = host.ca("rotate", "--root", medium, "--root-passphrase", word)
    assert rotated["state"] == "current"
    assert host.status()["authorities"][1]["subject"].startswith("CN=Example Fleet issuing CA ")


def test_root_that_never_was_on_the_host(tmp_path: Path, command: Run) -> None:
    host, offline = Host(tmp_path / "new", command), Host(tmp_path / "offline", command)
    host.configure()
    medium = tmp_path / "root"
    offline.folder.mkdir()
    offline.configure()
    offline.ca("root", medium, "--name", "Example")
    host.run("init", "--without-authority")
    assert host.run("ca", "status")[0] == 1
    csr, certificate = tmp_path / "ca.csr", tmp_path / "ca.pem"

    host.ca("trust", medium / "root.cert.pem")
    host.ca("request", csr, "--name", "Example")
    offline.ca("sign", csr, "--root", medium, "--out", certificate)
    host.ca("import", certificate)

    assert host.states() == ["root", "current"]
    assert host.acts() == ["trusted", "requested", "imported"]
    assert not list(host.folder.rglob("root.key.pem"))


def test_import_of_a_certificate_by_another_root_is_refused(host: Host, tmp_path: Path) -> None:
    csr, certificate = tmp_path / "ca.csr", tmp_path / "ca.pem"
    host.ca("root", tmp_path / "other")
    host.ca("request", csr)
    host.ca("sign", csr, "--root", tmp_path / "other", "--out", certificate)

    assert host.refused("import", certificate) == (2, "ca-certificate-wrong")

    assert host.states() == ["root", "pending", "current"]
    assert host.refused("trust", certificate) == (2, "ca-certificate-wrong")
    host.ca("trust", tmp_path / "other" / "root.cert.pem")
    host.ca("import", certificate)
    assert host.states() == ["root", "root", "current", "retired"]


def test_wrong_passphrase_of_the_root_is_refused_and_changes_nothing(
    host: Host, tmp_path: Path
) -> None:
    word = secret(tmp_path / "word")

    assert host.refused("rotate", "--root", host.root, "--root-passphrase", word) == (
        3,
        "ca-passphrase-wrong",
    )

    assert host.states() == ["root", "current"]
    assert host.acts() == []


def test_nothing_is_changed_while_the_log_cannot_be_written(host: Host) -> None:
    (host.folder / "verifier.db").unlink()

    code, word = host.refused("rotate", "--root", host.root)

    assert (code, word) == (3, "store-unavailable")
    assert host.states() == ["root", "current"]


def test_status_warns_of_a_ca_that_ends_soon(host: Host, tmp_path: Path) -> None:
    csr, certificate = tmp_path / "ca.csr", tmp_path / "ca.pem"
    host.ca("request", csr)
    host.ca("sign", csr, "--root", host.root, "--out", certificate, "--days", "30")
    host.ca("import", certificate)
    assert "ca-expires-soon" in host.codes()
    code, _, errors = host.run("ca", "status")
    assert (code, "warning: ca-expires-soon" in errors) == (0, True)


def test_status_fails_once_the_issuing_ca_has_ended(host: Host) -> None:
    settings = load_settings((host.folder / "verifier.toml").read_text(), "here", {})
    current = authority_status(settings, os.environ, datetime.now(UTC), DEFAULT_PROFILES)
    (ends,) = [one.not_after for one in current.authorities if one.state == "current"]
    assert ends is not None

    found = authority_status(settings, os.environ, ends, DEFAULT_PROFILES).findings

    assert found[0].failed
    assert "ca-expired" in {one.code for one in found if one.failed}


def test_status_fails_once_no_certificate_can_be_issued_before_the_ca_ends(
    host: Host, tmp_path: Path
) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(
        '[profile.ldevid]\nholder = "device"\nlifetime_hours_min = 48\n'
        '[profile.agent]\nholder = "agent"\n'
    )
    host.configure(f'[policy]\nprofiles = "{profiles}"\n')
    csr, certificate = tmp_path / "ca.csr", tmp_path / "ca.pem"
    host.ca("request", csr)
    host.ca("sign", csr, "--root", host.root, "--out", certificate, "--days", "1")
    host.ca("import", certificate)

    code, said, _ = host.run("ca", "status", "--json")
    found = json.loads(said)["findings"][0]

    assert (code, found["code"], found["failed"]) == (1, "ca-ends-too-soon", True)
    assert "ca rotate" in found["mend"]
    code, said, _ = host.run("check", "--json")
    assert code != 0
    assert "ca-ends-too-soon" in said


def test_status_tells_a_key_that_cannot_be_used_and_fails(host: Host) -> None:
    (host.keys / "authority.passphrase").write_text("not the right passphrase")

    code, said, _ = host.run("ca", "status", "--json")

    assert code == 1
    assert json.loads(said)["findings"][0]["code"] == "ca-passphrase-wrong"


def test_rotation_into_a_token(host: Host, tmp_path: Path) -> None:
    pin = secret(tmp_path / "pin", PIN)
    host.configure(
        f'[authority]\nbackend = "pkcs11"\npkcs11_module = "{tokens().module}"\n'
        f'pkcs11_token = "{tokens().take()}"\npin_file = "{pin}"\n'
    )

    host.ca("rotate", "--root", host.root)

    current = host.status()["authorities"][1]
    assert (current["state"], current["backend"], current["problem"]) == ("current", "pkcs11", "")
    pin.write_text("0000")
    code, said, _ = host.run("ca", "status", "--json")
    assert code == 1
    assert json.loads(said)["findings"][0]["code"] == "ca-pin-refused"


def test_retired_ca_is_removed_only_when_its_last_certificate_has_ended(
    device: SiteDevice, site_host: Host
) -> None:
    old = site_host.status()["authorities"][1]["id"]
    site_host.ca("rotate", "--root", site_host.root)

    assert site_host.refused("remove", old) == (1, "ca-in-use")

    with sqlite3.connect(site_host.folder / "verifier.db") as database:
        database.execute("UPDATE certificates SET not_after_us = 1")
    site_host.ca("remove", old)
    assert site_host.states() == ["root", "current"]
    assert site_host.acts() == ["rotated", "removed"]


def test_distrusting_a_ca_revokes_all_that_it_issued(device: SiteDevice, site_host: Host) -> None:
    stolen = site_host.status()["authorities"][1]["id"]

    told = site_host.ca("distrust", stolen, "--reason", "disk stolen")

    assert told["revoked"] == 1
    store = open_store(site_host.url, with_outbox=False)
    (certificate,) = store.certificates()
    assert (certificate.revoked_code, certificate.revoked_reason) == (2, "disk stolen")
    assert site_host.status()["findings"][0]["failed"]
    site_host.ca("rotate", "--root", site_host.root)
    assert site_host.states() == ["root", "current", "distrusted"]
    bundle = (site_host.keys / "device-authorities.pem").read_bytes()
    assert len(x509.load_pem_x509_certificates(bundle)) == 2


def test_root_revokes_a_stolen_ca_for_those_who_trust_the_root_alone(
    host: Host, tmp_path: Path
) -> None:
    stolen = host.status()["authorities"][1]["id"]
    certificate, crl = host.keys / "authority" / f"{stolen}.cert.pem", tmp_path / "root.crl.pem"
    root = host.root / "root.cert.pem"

    told = host.ca("revoke", certificate, "--root", host.root, "--out", crl)
    host.ca("publish", crl)

    assert told["revoked"] == 1
    checked = subprocess.run(
        ["openssl", "verify", "-crl_check", "-CAfile", root, "-CRLfile", crl, certificate],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "certificate revoked" in checked.stderr
    der = x509.load_pem_x509_certificate(root.read_bytes()).public_bytes(Encoding.DER)
    kept = open_store(host.url, with_outbox=False).published_list(hashlib.sha256(der).digest())
    assert kept is not None
    assert kept.number == 1
    assert host.refused("publish", crl) == (1, "conflict")
    host.ca("revoke", certificate, "--root", host.root, "--out", crl)
    assert host.ca("publish", crl)["number"] == 2
    assert host.acts() == ["published", "published"]


def test_root_signs_a_list_anew_with_nobody_else_revoked(host: Host, tmp_path: Path) -> None:
    issuing = host.status()["authorities"][1]["id"]
    certificate, crl = host.keys / "authority" / f"{issuing}.cert.pem", tmp_path / "root.crl.pem"
    told = []
    for more in ((), (certificate,), ()):
        host.ca("revoke", *more, "--root", host.root, "--out", crl)
        listed = x509.load_pem_x509_crl(crl.read_bytes())
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        told.append((number, [one.serial_number for one in listed]))

    serial = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
    assert told == [(1, []), (2, [serial]), (3, [serial])]


def test_list_of_another_root_is_not_published_and_no_stranger_is_revoked(
    host: Host, tmp_path: Path
) -> None:
    ours = host.status()["authorities"][1]["id"]
    other, crl = tmp_path / "other", tmp_path / "other.crl.pem"
    host.ca("root", other)
    csr, certificate = tmp_path / "ca.csr", tmp_path / "ca.pem"
    host.ca("request", csr)
    host.ca("sign", csr, "--root", other, "--out", certificate)
    host.ca("revoke", certificate, "--root", other, "--out", crl)

    assert host.refused("publish", crl) == (2, "ca-certificate-wrong")
    strange = host.keys / "authority" / f"{ours}.cert.pem"
    words = ("revoke", strange, "--root", other, "--out", tmp_path / "x")
    assert host.refused(*words) == (2, "ca-certificate-wrong")
    (other / "root.revoked.json").write_text("[]")
    words = ("revoke", certificate, "--root", other, "--out", tmp_path / "x")
    assert host.refused(*words) == (2, "settings-invalid")


def test_backup_is_restored_on_another_host_and_issues_there(
    device: SiteDevice, site_host: Host, tmp_path: Path, command: Run
) -> None:
    word, file = secret(tmp_path / "word"), tmp_path / "keys.backup"
    site_host.ca("backup", file, "--passphrase", word)
    other = Host(tmp_path / "other", command)
    other.configure()
    copy = sqlite3.connect(other.folder / "verifier.db")
    with sqlite3.connect(site_host.folder / "verifier.db") as database:
        database.backup(copy)
    copy.close()

    other.ca("restore", file, "--passphrase", word)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one["id"] for one in other.status()["authorities"]] == [
        one["id"] for one in site_host.status()["authorities"]
    ]
    assert other.acts() == ["backed-up", "restored"]
    assert other.refused("restore", file, "--passphrase", word) == (2, "settings-invalid")
    maker = device.site.manufacturer
    twin = VerifierSite(tmp_path / "other", maker)
    with twin:
        first = x509.load_pem_x509_certificates(device.chain_pem)
        again = SiteDevice(site=twin, tpm=device.tpm, log=device.log)
        assert again.enrol().status == 201
        second = x509.load_pem_x509_certificates(again.chain_pem)
    assert second[1] == first[1]
    assert second[0].serial_number != first[0].serial_number


def test_device_ca_of_an_earlier_release_is_told_and_moved_below_a_root(
    tmp_path: Path, command: Run
) -> None:
    host = Host(tmp_path / "old", command)
    host.configure()
    host.keys.mkdir(mode=0o700)
    create_authority(host.keys, DEVICE_CA, "device-attestation device CA", datetime.now(UTC))
    migrate(host.url)
    assert host.states() == ["root", "current"]
    assert host.codes() == ["ca-root-online", "ca-key-unencrypted"]

    host.ca("init", "--root-to", tmp_path / "medium")
    host.ca("encrypt")

    assert host.states() == ["root", "root", "current", "retired"]
    assert host.codes() == ["ca-passphrase-beside-key"]


@pytest.fixture
def site_host(device: SiteDevice, command: Run) -> Host:
    """The host of the site, stopped, on which the device was enrolled."""
    return Host(device.site.folder, command)


@pytest.fixture
def device(tmp_path: Path) -> SiteDevice:
    site = VerifierSite(tmp_path / "site", SoftManufacturer())
    with site:
        made = site.device()
        assert made.enrol().status == 201
    return made
