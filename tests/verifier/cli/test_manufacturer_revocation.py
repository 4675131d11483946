"""``verifier manufacturer revoke`` and ``crl``, to the verifier that believes the list."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.ports import KeyRole
from tests.simulators import soft_tpm_maker
from tests.simulators.command_line import Run, runner
from tests.simulators.soft_factory import SoftUnit
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.settings import load_settings

MAKER = soft_tpm_maker.root()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd, "manufacturer")


class Plant:
    """A manufacturer's line and what it made."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self._run = folder, run
        self.root = folder / "ca" / "manufacturer-ca.cert.pem"
        self.ok("init")

    def run(self, command: str, *words: object) -> tuple[int, str, str]:
        return self._run(command, *words, "--directory", self.folder / "ca")

    def ok(self, command: str, *words: object) -> str:
        code, said, complaint = self.run(command, *words)
        assert code == 0, complaint
        return said

    def issue(self, unit: SoftUnit, *more: object) -> tuple[int, str, str]:
        request = self.folder / "unit.csr"
        request.write_bytes(unit.request())
        out = self.folder / "out"
        return self.run("issue", request, "--out", out, "--ek", "ignore", *more)

    def made(self, serial: str, *more: object) -> SoftUnit:
        unit = SoftUnit(serial, MAKER)
        assert self.issue(unit, *more)[0] == 0
        for role in (KeyRole.IDEVID, KeyRole.IAK):
            path = self.folder / "out" / f"{role.value}.pem"
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            unit.tpm.certificates[role] = certificate.public_bytes(Encoding.DER)
        return unit

    def crl(self, name: str = "list.pem", *more: object) -> x509.CertificateRevocationList:
        path = self.folder / name
        self.ok("crl", "--out", path, *more)
        load = x509.load_pem_x509_crl if name.endswith(".pem") else x509.load_der_x509_crl
        return load(path.read_bytes())

    def rows(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.ok("manifest", "--json"))["devices"]
        return found


@pytest.fixture
def plant(tmp_path: Path, run: Run) -> Plant:
    return Plant(tmp_path, run)


def number(listed: x509.CertificateRevocationList) -> int:
    return listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def openssl(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["openssl", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def serial_number(unit: SoftUnit, role: KeyRole) -> int:
    return x509.load_der_x509_certificate(unit.tpm.certificates[role]).serial_number


def test_openssl_refuses_what_the_list_revokes(plant: Plant) -> None:
    plant.made("EB-1")
    check = ("-CAfile", plant.root, "-crl_check", "-CRLfile", plant.folder / "list.pem")
    leaf = plant.folder / "out" / "idevid.pem"

    plant.crl()
    assert openssl("verify", "-x509_strict", *check, leaf).returncode == 0
    plant.ok("revoke", "EB-1", "--reason", "keyCompromise")
    plant.crl()
    plant.crl("list.der")

    done = openssl("verify", "-x509_strict", *check, leaf)
    assert (done.returncode, "certificate revoked" in done.stderr) == (2, True)
    for name, form in (("list.pem", "PEM"), ("list.der", "DER")):
        path = plant.folder / name
        done = openssl("crl", "-in", path, "-inform", form, "-CAfile", plant.root, "-noout")
        assert "verify OK" in done.stderr


def test_lists_have_growing_numbers_an_end_and_reasons(plant: Plant) -> None:
    unit = plant.made("EB-1")
    first = plant.crl()
    plant.ok("revoke", "EB-1", "--reason", "superseded")
    second = plant.crl("again.pem", "--days", "7")

    assert number(second) > number(first)
    assert len(first) == 0
    assert second.next_update_utc is not None
    assert second.next_update_utc - second.last_update_utc == timedelta(days=7)
    for role in (KeyRole.IDEVID, KeyRole.IAK):
        one = second.get_revoked_certificate_by_serial_number(serial_number(unit, role))
        assert one is not None
        reason = one.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason is x509.ReasonFlags.superseded
    assert plant.run("crl", "--out", plant.folder / "l", "--days", "0")[0] == 2


def test_replacing_says_how_to_revoke_and_that_takes_the_old_alone(plant: Plant) -> None:
    old = plant.made("EB-1")
    code, said, _ = plant.issue(SoftUnit("EB-1", MAKER), "--replace", "mainboard changed")
    assert code == 0
    assert "verifier manufacturer revoke EB-1 --replaced --reason superseded" in said

    plant.ok("revoke", "EB-1", "--replaced", "--reason", "superseded")

    first, second = plant.rows()
    assert first["revoked"].startswith("idevid superseded 20")
    assert "; iak superseded 20" in first["revoked"]
    assert second["revoked"] == ""
    listed = {one.serial_number for one in plant.crl()}
    assert listed == {serial_number(old, role) for role in (KeyRole.IDEVID, KeyRole.IAK)}


def test_one_certificate_is_revoked_alone(plant: Plant) -> None:
    unit = plant.made("EB-1")
    iak = serial_number(unit, KeyRole.IAK)

    plant.ok("revoke", "EB-1", "--reason", "privilegeWithdrawn", "--certificate", f"{iak:x}")

    assert {one.serial_number for one in plant.crl()} == {iak}
    assert plant.rows()[0]["revoked"].startswith("iak privilegeWithdrawn ")
    assert plant.ok("manifest", "--csv").splitlines()[0].endswith(",revoked")


def test_only_compromise_takes_the_place_of_a_reason(plant: Plant) -> None:
    plant.made("EB-1")
    plant.ok("revoke", "EB-1", "--reason", "superseded")
    said = plant.ok("revoke", "EB-1", "--reason", "cessationOfOperation")
    assert "revoked before EB-1" in said
    assert "superseded" in plant.rows()[0]["revoked"]
    plant.ok("revoke", "EB-1", "--reason", "keyCompromise")
    plant.ok("revoke", "EB-1", "--reason", "superseded")
    assert plant.rows()[0]["revoked"].count("keyCompromise") == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("EB-2", "--reason", "superseded"), 1, "certificate-unknown"),
        (("EB-1", "--reason", "superseded", "--certificate", "ab"), 1, "certificate-unknown"),
        (("EB-1", "--reason", "superseded", "--replaced"), 1, "certificate-unknown"),
        (("EB-1", "--reason", "superseded", "--certificate", "xy"), 2, "request-invalid"),
        (("EB-1", "--reason", "because"), 2, "request-invalid"),
    ],
)
def test_what_cannot_be_revoked_is_told(
    plant: Plant, words: tuple[str, ...], code: int, told: str
) -> None:
    plant.made("EB-1")
    ended, _, complaint = plant.run("revoke", *words)
    assert (ended, complaint.startswith(f"verifier: {told}: ")) == (code, True)
    assert plant.rows()[0]["revoked"] == ""


def test_revoked_certificates_are_not_handed_out_again(plant: Plant) -> None:
    unit = plant.made("EB-1")
    plant.ok("revoke", "EB-1", "--reason", "superseded")

    code, _, complaint = plant.issue(unit)
    assert (code, "already-manufactured" in complaint) == (1, True)
    assert "are revoked" in complaint
    assert plant.issue(unit, "--replace", "revoked by mistake")[0] == 0


def test_compromised_key_is_certified_for_nobody_again(plant: Plant) -> None:
    unit = plant.made("EB-1")
    plant.ok("revoke", "EB-1", "--reason", "keyCompromise")
    unit.serial = "EB-2"

    code, _, complaint = plant.issue(unit, "--replace", "another try")
    assert (code, complaint.startswith("verifier: key-compromised: ")) == (1, True)


class MadeHere(SoftManufacturer):
    """The line's root, where a site asks for its manufacturer's."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = self.issuer = x509.load_pem_x509_certificate(root.read_bytes())


def test_verifier_with_the_list_refuses_the_revoked_unit(plant: Plant) -> None:
    fallen, other = plant.made("EB-1"), plant.made("EB-2")
    site = VerifierSite(plant.folder / "site", MadeHere(plant.root))
    devices = [SiteDevice(site=site, tpm=unit.tpm) for unit in (fallen, other)]
    with site:
        for one in devices:
            assert one.enrol().status == 201
            assert one.attest().json["status"] != "contraindicated"

    plant.ok("revoke", "EB-1", "--reason", "keyCompromise")
    plant.crl()
    named = f'[trust]\nmanufacturer_crls = ["{plant.folder}/list.pem"]\n'
    site.config.write_text(site.config.read_text().replace("[trust]\n", named))
    site.settings = load_settings(site.config.read_text(), str(site.config), {})
    for one in devices:
        one.reconnect()
        one.challenge, one.log_known = {}, False
    with site:
        answers = [one.attest() for one in devices]
        assert answers[0].json["status"] == "contraindicated"
        assert "certificate-revoked" in answers[0].body.decode()
        assert answers[1].json["status"] != "contraindicated"
        refused = devices[0].enrol()
        assert (refused.status >= 400, refused.json["code"]) == (True, "certificate-revoked")
        assert devices[1].enrol().status == 201
