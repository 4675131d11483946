"""Reference values as an operator works with them: review, stages, CoRIMs, dry runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.algorithms import HashAlgorithm
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.wire.strict_cbor import CborValue, Tagged
from tests.simulators.command_line import Run, runner
from tests.simulators.corim_press import comid, corim, public_pem, registers, signed, triple
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, boot_log, in_use
from verifier import policies
from verifier.cli.moments import parse_moment
from verifier.errors import RequestRefused
from verifier.ports import DocumentKind
from verifier.services.reference_documents import ReferenceDocuments

KEY = ec.generate_private_key(ec.SECP256R1())
AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path / "site", SoftManufacturer()) as running:
        yield running


@pytest.fixture
def device(site: VerifierSite) -> SiteDevice:
    return enrolled(site, "SN-0001")


@pytest.fixture
def run(
    site: VerifierSite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in this process, through its real entry point."""
    return runner(monkeypatch, capfd, "-c", site.config)


def enrolled(site: VerifierSite, serial: str, log: bytes | None = None) -> SiteDevice:
    made = site.device(serial, log)
    assert made.enrol().status == 201
    made.attest()
    return made


def packaged(policy: str) -> str:
    return (resources.files("verifier.policies") / f"{policy}.toml").read_text()


def listed(run: Run) -> dict[str, Any]:
    sets = json.loads(run("reference-values", "list", "--json")[1])
    return {f"{one['name']}/{one['version']}": one for one in sets}


def pcr_values(log: bytes, *pcrs: int) -> dict[int | str, bytes]:
    values = replay(parse_firmware_log(log)).pcrs[HashAlgorithm.SHA256]
    return {index: values[index] for index in pcrs}


def maker_corim(*pcrs: int, more: dict[int | str, CborValue] | None = None) -> bytes:
    values = pcr_values(boot_log(), *(pcrs or (*range(10), 14)))
    return corim(comid(triple(registers(values))), more=more)


def test_learnt_set_is_shown_and_reviewed(run: Run, device: SiteDevice) -> None:
    learn = ("reference-values", "learn", "--device", device.device_id, "--name", "gold")
    code, told, _ = run(*learn)
    assert code == 0
    assert "not reviewed yet: PCR 0, 1" in told
    assert listed(run)["gold/1"]["to_review"]

    _, shown, _ = run("reference-values", "show", "gold")
    assert "gold/1: not reviewed" in shown
    assert "(to review)" in shown
    assert "EV_SEPARATOR" in shown

    code, _, wrong = run("reference-values", "review", "gold", "--by", "me", "--pcr", "77")
    assert code != 0
    assert "the set holds no PCR 77; it holds 0, " in wrong
    _, told, _ = run("reference-values", "review", "gold", "--by", "night shift", "--pcr", "0")
    assert 0 not in listed(run)["gold/1"]["to_review"]
    assert "not reviewed yet: PCR 1" in told
    run("reference-values", "review", "gold", "--by", "day shift")
    assert listed(run)["gold/1"]["to_review"] == []
    assert "reviewed by day shift" in run("reference-values", "show", "gold")[1]

    _, again, _ = run(*learn)
    assert "accepts the same as gold/1" in again
    assert "not reviewed" not in again


def test_new_version_is_rolled_out_in_stages(
    run: Run, site: VerifierSite, device: SiteDevice
) -> None:
    new = enrolled(site, "SN-0002", boot_log(b"kernel 6.2"))
    run("reference-values", "learn", "--device", device.device_id, "--name", "gold")
    run("reference-values", "review", "gold", "--by", "night shift")

    code, told, _ = run(
        "reference-values", "learn", "--device", new.device_id, "--name", "gold",
        "--keep-old-until", "7d",
    )  # fmt: skip

    assert code == 0
    assert "against gold/1:" in told
    assert "PCR 8 (sha256): accepts" in told
    assert "+ EV_ACTION kernel 6.2" in told
    assert "- EV_ACTION kernel 6.1" in told
    sets = listed(run)
    assert sets["gold/2"]["to_review"] == [8, 9]
    assert sets["gold/1"]["accepted_until"] is not None
    in_use()
    assert device.attest().json["status"] == "affirming", "of the old version, accepted on"
    assert new.attest().json["status"] == "affirming", "of the new version"

    assert run("reference-values", "diff", "gold/1", "gold/2")[0] == 1
    assert run("reference-values", "diff", "gold", "gold/2")[1] == "both accept the same\n"
    assert "gold\t1\tin force until" in run("reference-values", "list")[1]
    run("reference-values", "remove", "gold/1")
    assert list(listed(run)) == ["gold/2"]


def test_signed_corim_of_a_trusted_signer_is_imported(
    run: Run, tmp_path: Path, device: SiteDevice
) -> None:
    file, key = tmp_path / "maker.corim", tmp_path / "maker.pem"
    file.write_bytes(signed(KEY, maker_corim()))
    key.write_text(public_pem(KEY))

    code, _, complaint = run("reference-values", "import", file)
    assert code == 1
    assert complaint.startswith("verifier: corim-signer-unknown: it says that 'ACME Ltd.'")

    assert run("reference-values", "signer", "add", "acme", key)[0] == 0
    assert "acme" in run("reference-values", "signer", "list")[1]
    code, told, _ = run("reference-values", "import", file)
    assert code == 0, told
    assert "imported ACME RoadRunner/1: CoRIM acme-2026-03" in told
    assert "signed by acme" in told
    assert listed(run)["ACME RoadRunner/1"]["to_review"] == []
    run("reference-values", "import", file)
    assert "ACME RoadRunner/2" in listed(run)

    assert run("reference-values", "signer", "remove", "acme")[0] == 0
    assert run("reference-values", "import", file)[0] == 1
    assert run("reference-values", "import", file, "--signer", key, "--name", "fleet")[0] == 0
    assert "fleet/1" in listed(run)


def test_unsigned_corim_is_taken_only_when_said_so(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "maker.corim"
    file.write_bytes(maker_corim(0, 4, more={2: [{0: "https://other.example"}]}))

    code, _, complaint = run("reference-values", "import", file)
    assert code == 2
    assert "corim-signer-unknown: nobody signed this CoRIM" in complaint
    assert listed(run) == {}

    code, _, warned = run("reference-values", "import", file, "--unsigned")
    assert code == 0
    assert "WARNING: nobody signed this CoRIM" in warned
    assert "note: dependent RIMs" in warned
    assert listed(run)["ACME RoadRunner/1"]["to_review"] == [0, 4]


def test_corim_that_must_be_signed_is_not_taken_unsigned(run: Run, tmp_path: Path) -> None:
    file, key = tmp_path / "maker.corim", tmp_path / "maker.pem"
    file.write_bytes(maker_corim())
    key.write_text(public_pem(KEY))

    assert run("reference-values", "import", file, "--unsigned", "--signer", key)[0] == 2
    assert listed(run) == {}


def test_signer_that_no_longer_loads_does_not_hinder_the_others(
    run: Run, tmp_path: Path, site: VerifierSite
) -> None:
    file, key = tmp_path / "maker.corim", tmp_path / "maker.pem"
    file.write_bytes(signed(KEY, maker_corim()))
    key.write_text(public_pem(KEY))
    run("reference-values", "signer", "add", "acme", key)
    documents = ReferenceDocuments(site.running.store)
    documents.put(DocumentKind.CORIM_SIGNER, "aaa", "torn", AT)

    assert run("reference-values", "import", file)[0] == 0


def test_signed_corim_stays_signed_under_unsigned(run: Run, tmp_path: Path) -> None:
    """--unsigned says that none is needed, not that a wrong one will do."""
    file = tmp_path / "maker.corim"
    file.write_bytes(signed(KEY, maker_corim()))

    assert run("reference-values", "import", file, "--unsigned")[0] == 1
    assert listed(run) == {}


@pytest.mark.parametrize(
    ("more", "arguments", "code", "named"),
    [
        ({3: Tagged(32, "http://p.example")}, (), 2, "--profile"),
        ({3: Tagged(32, "http://p.example")}, ("--profile", "http://p.example"), 0, ""),
        ({4: {1: Tagged(1, 1_000_000_000)}}, (), 1, "reference-not-in-force: it held until 2001"),
        ({4: {1: Tagged(1, 32_503_680_000)}}, (), 0, ""),
    ],
)
def test_corim_holds_at_its_time_and_in_its_profile(
    run: Run,
    tmp_path: Path,
    more: dict[int | str, CborValue],
    arguments: tuple[str, ...],
    code: int,
    named: str,
) -> None:
    file = tmp_path / "maker.corim"
    file.write_bytes(maker_corim(0, more=more))

    ended, _, complaint = run("reference-values", "import", file, "--unsigned", *arguments)

    assert ended == code
    assert named in complaint


def test_corim_without_pcr_values_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "maker.corim"
    file.write_bytes(corim(comid(triple(registers({"rtmr0": bytes(32)})))))

    code, _, complaint = run("reference-values", "import", file, "--unsigned")

    assert code == 2
    assert "holds no PCR reference values" in complaint
    assert "not a PCR" in complaint


def test_several_sets_are_imported_together_or_not(run: Run, tmp_path: Path) -> None:
    coyote = triple(registers(pcr_values(boot_log(), 0)), environment={0: {2: "Coyote"}})
    file = tmp_path / "maker.corim"
    file.write_bytes(corim(comid(triple(registers(pcr_values(boot_log(), 0))), coyote)))

    code, _, complaint = run("reference-values", "import", file, "--unsigned", "--name", "x")
    assert code == 2
    assert "makes 2 sets" in complaint
    assert run("reference-values", "import", file, "--unsigned")[0] == 0
    assert list(listed(run)) == ["ACME RoadRunner/1", "Coyote/1"]


def test_corim_options_are_for_corims(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "set.toml"
    file.write_text('name = "x"')

    assert run("reference-values", "import", file, "--unsigned")[0] == 2


def test_signer_that_is_no_key_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")

    code, _, complaint = run("reference-values", "signer", "add", "acme", file)

    assert code == 2
    assert complaint.startswith("verifier: key-malformed: signer acme")


def test_set_is_computed_from_a_log(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "support.rim"
    log.write_bytes(boot_log())

    assert run("reference-values", "from-log", log, "--name", "rim")[0] == 0
    assert "rim/1" in listed(run)


def test_document_that_no_longer_loads_is_named_by_check(
    run: Run, site: VerifierSite, device: SiteDevice
) -> None:
    run("reference-values", "learn", "--device", device.device_id, "--name", "gold")
    with site.running.store.work() as work:
        work._connection.exec_driver_sql("UPDATE reference_sets SET document = 'x'")
        work._count_reference_change()

    checks = {one["name"]: one for one in json.loads(run("check", "--json")[1])}

    assert checks["reference values"]["verdict"] == "failed"
    assert "reference-set gold/1" in checks["reference values"]["reason"]
    assert device.attest().json["status"] == "warning"


class TestDryRun:
    """Two devices: one boots what is known, one a newer kernel."""

    @pytest.fixture(autouse=True)
    def fleet(self, site: VerifierSite, device: SiteDevice, run: Run) -> None:
        self.old = device
        self.new = enrolled(site, "SN-0002", boot_log(b"kernel 6.2"))
        site.device("SN-0003").enrol()
        run("reference-values", "learn", "--device", self.old.device_id, "--name", "gold")

    def outcome(self, run: Run, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code, out, _ = run(*arguments, "--json", "--all")
        told = json.loads(out)
        return code, {one["device"]: one for one in told["devices"]}

    def test_set_that_would_be_removed(self, run: Run) -> None:
        code, rows = self.outcome(run, "reference-values", "dry-run", "--remove", "gold")

        assert code == 1
        assert rows["sn-0001"]["change"] == "worse"
        assert (rows["sn-0001"]["now"], rows["sn-0001"]["then"]) == ("affirming", "warning")
        assert rows["sn-0001"]["reason"].startswith("reference-missing: ")
        assert rows["sn-0003"]["change"] in {"not judged", "worse"}
        assert "gold/1" in listed(run)

    def test_set_that_would_replace_or_stand_beside(self, run: Run, tmp_path: Path) -> None:
        run("reference-values", "learn", "--device", self.new.device_id, "--name", "next")
        exported = run("reference-values", "export", "next")[1]
        run("reference-values", "remove", "next")
        file = tmp_path / "next.toml"
        file.write_text(
            exported.replace('name = "next"\nversion = 1', 'name = "gold"\nversion = 2')
        )
        before = listed(run)

        code, replaced = self.outcome(run, "reference-values", "dry-run", file)
        assert code == 1
        assert replaced["sn-0001"]["change"] == "worse"
        assert replaced["sn-0002"]["change"] == "better"
        assert replaced["sn-0002"]["reason"].startswith("no longer reference-mismatch: ")

        code, beside = self.outcome(
            run, "reference-values", "dry-run", file, "--keep-old-until", "7d"
        )
        assert code == 0
        assert beside["sn-0001"]["change"] == "same"
        assert beside["sn-0002"]["change"] == "better"
        assert listed(run) == before

    def test_corim_is_judged_as_import_would_put_it(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "maker.corim"
        file.write_bytes(maker_corim())

        assert run("reference-values", "dry-run", file)[0] == 2
        code, rows = self.outcome(run, "reference-values", "dry-run", file, "--unsigned")
        assert (code, rows["sn-0001"]["change"]) == (0, "same")
        profile = "https://acme.example/profile"
        file.write_bytes(maker_corim(more={3: Tagged(32, profile)}))
        refused = run("reference-values", "dry-run", file, "--unsigned")
        assert (refused[0], "has the profile" in refused[2]) == (2, True)
        named = ("--unsigned", "--profile", profile)
        assert run("reference-values", "dry-run", file, *named)[0] == 0
        run("reference-values", "learn", "--device", "sn-0001", "--name", "ACME RoadRunner")
        assert "conflict" in run("reference-values", "dry-run", file, *named)[2]
        named = (*named, "--name", "ACME RoadRunner")
        assert run("reference-values", "dry-run", file, *named)[0] in {0, 1}

    def test_policy_that_is_stricter(self, run: Run, tmp_path: Path) -> None:
        packaged = json.loads(run("policy", "show", "--json")[1])["id"]
        assert packaged.startswith("development")
        text = (Path(policies.__file__).parent / "development.toml").read_text()
        file = tmp_path / "policy.toml"
        file.write_text(
            text.replace("unknown = 32", "unknown = 96").replace("unknown = 33", "unknown = 96")
        )

        code, rows = self.outcome(run, "policy", "dry-run", file)

        assert rows["sn-0001"]["change"] == "same"
        assert rows["sn-0002"]["now"] == "warning"
        assert (code, rows["sn-0002"]["then"]) == (1, "contraindicated")

    def test_packaged_policy_is_tried_by_its_name(self, run: Run) -> None:
        code, rows = self.outcome(run, "policy", "dry-run", "development")

        assert code == 0
        assert {row["change"] for row in rows.values()} == {"same"}

    def test_policy_that_asks_for_other_pcrs_cannot_be_judged(
        self, run: Run, tmp_path: Path
    ) -> None:
        file = tmp_path / "policy.toml"
        file.write_text(
            packaged("development")
            .replace("8,9,14", "8,9,10,14")
            .replace("8, 9, 14", "8, 9, 10, 14")
        )

        code, rows = self.outcome(run, "policy", "dry-run", file)

        assert code == 0
        assert {row["change"] for row in rows.values()} == {"not judged"}
        assert "quotes other PCRs" in rows["sn-0001"]["reason"]

    def test_policy_that_asks_for_a_list_that_was_not_asked_for_yet(
        self, run: Run, tmp_path: Path
    ) -> None:
        file = tmp_path / "policy.toml"
        file.write_text(packaged("linux-edge-ima"))

        _, rows = self.outcome(run, "policy", "dry-run", file)

        assert {row["change"] for row in rows.values()} == {"not judged"}
        assert rows["sn-0001"]["reason"] == "it was not asked for its IMA list yet"

    def test_evidence_that_proved_nothing_is_not_judged(self, run: Run) -> None:
        challenge = self.old.ask()
        self.old.submit(self.old.evidence(challenge))
        assert self.old.submit(self.old.evidence(challenge)).json["status"] == "contraindicated"

        _, rows = self.outcome(run, "reference-values", "dry-run", "--remove", "gold")

        assert rows["sn-0001"]["change"] == "not judged"
        assert "step 3 (freshness) failed" in rows["sn-0001"]["reason"]

    def test_log_that_is_not_kept_is_said(self, run: Run, site: VerifierSite) -> None:
        self.old.attest()
        with site.running.store.work() as work:
            work._connection.exec_driver_sql("DELETE FROM firmware_logs")

        _, rows = self.outcome(run, "reference-values", "dry-run", "--remove", "gold")

        assert rows["sn-0001"]["change"] == "not judged"
        assert "is not kept here" in rows["sn-0001"]["reason"]

    def test_table_says_how_many(self, run: Run) -> None:
        _, out, _ = run("reference-values", "dry-run", "--remove", "gold")

        assert out.startswith("device\tchange\tnow\tthen\twhy\n")
        assert "devices: 1 worse" in out or "devices: 2 worse" in out
        assert "Nothing was changed" in out

    def test_either_file_or_removal_is_given(self, run: Run) -> None:
        assert run("reference-values", "dry-run")[0] == 2
        assert run("reference-values", "dry-run", "--remove", "nothing")[0] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", AT + timedelta(days=7)),
        ("12h", AT + timedelta(hours=12)),
        ("30m", AT + timedelta(minutes=30)),
        ("2026-06-01", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T12:00:00Z", datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ("2026-06-01T12:00:00+02:00", datetime(2026, 6, 1, 10, tzinfo=UTC)),
    ],
)
def test_moments_are_read(text: str, expected: datetime) -> None:
    assert parse_moment(text, AT) == expected


@pytest.mark.parametrize("text", ["", "soon", "7", "7w", "-7d", "2026-02-01", "0d", "999999d" * 2,
                                  "2026-06-01T12:00:00"])  # fmt: skip
def test_what_is_no_moment_to_come_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused):
        parse_moment(text, AT)
