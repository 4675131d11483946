"""``verifier ek`` and the EK rules of ``verifier manufacturer issue``, as an operator runs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.tpm.csr_idevid import TcgCsrIdevidContent, build, build_content
from device_agent.ports import KeyRole
from tests.simulators import soft_tpm_maker as maker
from tests.simulators.command_line import Run, runner
from tests.simulators.soft_device import SoftManufacturer, SoftTpm
from tests.simulators.verifier_site import VerifierSite
from tests.verifier.endorsement.test_revocation import crl

DATA = Path(__file__).parents[2] / "data"
INFINEON = str(DATA / "immune-gmbh_guard-oss/ek/h12sslEK.pem")
NUVOTON = str(DATA / "immune-gmbh_guard-oss/ek/sr630EK.pem")
GOOGLE = str(DATA / "google_go-tpm-tools/certificates/uca_tpm_rsa_enc_cert.pem")
GOOGLE_ROOTS = str(DATA / "google_go-tpm-tools/ca-certs")
WHEN = ("--at", "2026-05-01T00:00:00Z")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd)


def test_real_ek_is_believed_and_described(run: Run) -> None:
    code, told, complaint = run("ek", INFINEON, *WHEN)

    assert (code, complaint) == (0, "")
    assert "TPM: IFX SLB 9665 id:053E" in told
    assert "key: RSA-2048\n" in told
    assert "path: C=DE" in told
    assert told.endswith("verdict: believed\n")


def test_document_names_quirks_and_path(run: Run) -> None:
    code, told, _ = run("ek", NUVOTON, "--json", *WHEN)
    document = json.loads(told)

    assert code == 0
    assert document["quirks"] == ["set-order"]
    assert len(document["path"]) == 2
    assert (document["verdict"], document["refusal"]) == ("believed", None)


def test_ek_of_an_unknown_maker_is_refused_until_its_roots_are_named(run: Run) -> None:
    code, told, complaint = run("ek", GOOGLE, *WHEN)

    assert code == 1
    assert complaint.startswith("verifier: ek-certificate-untrusted: ")
    assert "verdict: refused" in told
    assert run("ek", GOOGLE, "--roots", GOOGLE_ROOTS, *WHEN)[0] == 0
    assert run("ek", INFINEON, "--roots", GOOGLE_ROOTS, *WHEN)[0] == 0
    assert run("ek", INFINEON, "--roots", GOOGLE_ROOTS, "--only", *WHEN)[0] == 1


def test_refusal_is_in_the_document_too(run: Run) -> None:
    code, told, _ = run("ek", GOOGLE, "--json", *WHEN)

    assert code == 1
    assert json.loads(told)["refusal"]["code"] == "ek-certificate-untrusted"


def test_moment_decides(run: Run) -> None:
    assert "certificate-expired" in run("ek", INFINEON, "--at", "2040-01-01")[2]
    assert "certificate-not-yet-valid" in run("ek", INFINEON, "--at", "2019-01-01")[2]
    code, told, _ = run("ek", INFINEON, "--at", "2036-06-01", "--accept-expired")
    assert code == 0
    assert "finding: certificate-expired" in told
    assert run("ek", INFINEON, "--at", "soon")[0] == 2


def test_nv_contents_and_chain_are_read(run: Run, tmp_path: Path) -> None:
    root = maker.root()
    lower = maker.below(root)
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/maker.der").write_bytes(root.der)
    (tmp_path / "roots/notes.txt").write_bytes(b"not read")
    (tmp_path / "index").write_bytes(maker.ek(lower) + b"\xff" * 100)
    (tmp_path / "chain").write_bytes(lower.der + b"\xff" * 100)
    given = ("ek", str(tmp_path / "index"), "--roots", str(tmp_path / "roots"), *WHEN)

    assert run(*given, "--nv", "--chain", str(tmp_path / "chain"))[0] == 0
    assert run(*given, "--nv")[0] == 1
    code, told, complaint = run(*given, "--chain", str(tmp_path / "chain"))
    assert (code, told) == (2, "")
    assert "ek-certificate-malformed" in complaint


@pytest.mark.parametrize("content", [b"", b"junk", b"\x00" * (64 * 1024 + 1)])
def test_what_is_no_certificate_is_malformed(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ek").write_bytes(content)

    assert run("ek", str(tmp_path / "ek"))[0] == 2


def test_folder_without_roots_is_malformed(run: Run, tmp_path: Path) -> None:
    assert run("ek", INFINEON, "--roots", str(tmp_path), "--only")[0] == 2
    assert run("ek", INFINEON, "--roots", str(tmp_path / "absent"))[0] == 2
    assert run("ek", INFINEON, "--only")[0] == 2


# --- manufacture ---------------------------------------------------------------------------


def request(folder: Path, ek: bytes) -> str:
    tpm = SoftTpm()
    certify = tpm.certify(KeyRole.IDEVID, b"")
    content = TcgCsrIdevidContent(
        hash=tpm.keys[KeyRole.IDEVID].name_alg,
        product_model=b"Edge Box",
        product_serial=b"EB-77",
        ek_certificate=ek,
        iak_public=tpm.public_area(KeyRole.IAK),
        idevid_public=tpm.public_area(KeyRole.IDEVID),
        idevid_certify=certify.attest,
        idevid_certify_signature=certify.signature,
    )
    raw = build_content(content, entropy=bytes(16))
    path = folder / "request"
    path.write_bytes(build(raw, tpm.keys[KeyRole.IDEVID].sign(raw)))
    return str(path)


def test_line_holds_its_list_and_the_tpms_maker_against_a_request(run: Run, tmp_path: Path) -> None:
    """N44."""
    root = maker.root(not_before=datetime.now(UTC) - timedelta(days=1))
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/maker.der").write_bytes(root.der)
    (tmp_path / "list").write_text("EB-76\nEB-77\n")
    (tmp_path / "other").write_text("EB-78\n")
    line = str(tmp_path / "line")
    assert run("manufacturer", "init", "--directory", line)[0] == 0

    def issue(ek: bytes, *options: str) -> str:
        again = ("--replace", "held against other rules") if (tmp_path / "out").exists() else ()
        given = ("manufacturer", "issue", request(tmp_path, ek), "--directory", line, *again)
        return run(*given, "--out", str(tmp_path / "out"), *options)[2].partition(": ")[2]

    known = ("--ek-roots", str(tmp_path / "roots"))
    ek = maker.ek(root)
    assert issue(ek, *known, "--ek", "require", "--inventory", str(tmp_path / "list")) == ""
    assert issue(b"") == ""
    assert issue(ek, "--ek", "ignore") == ""
    assert issue(ek).startswith("ek-certificate-untrusted")
    assert issue(b"", "--ek", "require").startswith("manufacture-request-invalid")
    other = issue(ek, *known, "--inventory", str(tmp_path / "other"))
    assert other.startswith("manufacture-request-invalid")


# --- check ---------------------------------------------------------------------------------


def test_check_warns_of_a_stale_revocation_list(run: Run, tmp_path: Path) -> None:
    made = SoftManufacturer()
    (tmp_path / "lists.pem").write_bytes(crl(made, 5).public_bytes(Encoding.PEM))
    site = VerifierSite(tmp_path / "site", made)
    text = site.config.read_text()
    named = f'[trust]\nmanufacturer_crls = ["{tmp_path}/lists.pem"]\n'
    site.config.write_text(text.replace("[trust]\n", named))

    _, told, _ = run("-c", str(site.config), "check", "--json")
    (roots,) = (one for one in json.loads(told) if one["name"] == "roots")

    assert roots["verdict"] == "warning"
    assert "1 revocation lists; a newer list is due" in roots["reason"]
