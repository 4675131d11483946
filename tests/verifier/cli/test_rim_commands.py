"""A PC Client RIM comes in: signer, support file, set, review, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.limits import MAX_RIM_BYTES
from tests.simulators.command_line import Run, runner
from tests.simulators.corim_press import public_pem
from tests.simulators.rim_press import file, press, tag
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import VerifierSite, boot_log

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
LOG = boot_log()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path / "site", SoftManufacturer()) as running:
        yield running


@pytest.fixture
def run(
    site: VerifierSite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    return runner(monkeypatch, capfd, "-c", site.config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a maker ships: the base RIM, its event log, and the key that the operator checked."""
    (tmp_path / "box.swidtag").write_bytes(press(KEY, tag(file(LOG))))
    (tmp_path / "box.rimel").write_bytes(LOG)
    (tmp_path / "acme.pem").write_text(public_pem(KEY))
    (tmp_path / "other.pem").write_text(public_pem(OTHER))
    return tmp_path


def bring(run: Run, folder: Path, *more: str | Path) -> tuple[int, str, str]:
    return run(
        "reference-values", "import", folder / "box.swidtag",
        "--support", folder / "box.rimel", *more,
    )  # fmt: skip


def listed(run: Run) -> dict[str, dict[str, Any]]:
    rows = json.loads(run("reference-values", "list", "--json")[1])
    return {f"{row['name']}/{row['version']}": row for row in rows}


def test_rim_of_a_trusted_signer_becomes_a_set_with_its_origin(run: Run, folder: Path) -> None:
    assert bring(run, folder)[2].startswith("verifier: rim-signer-unknown")
    run("reference-values", "signer", "add", "acme", folder / "acme.pem")

    code, told, complaint = bring(run, folder)

    assert code == 0, complaint
    assert (
        "imported ACME RoadRunner/1: PC Client RIM acme-rr-1 version 2, RoadRunner BIOS 1.4 for "
        "ACME RoadRunner 7, support RIM rim/box.rimel, signed by acme"
    ) in told
    assert listed(run)["ACME RoadRunner/1"]["to_review"] == []
    run("reference-values", "from-log", folder / "box.rimel", "--name", "same")
    assert run("reference-values", "diff", "ACME RoadRunner", "same")[0] == 0
    bring(run, folder, "--keep-old-until", "7d")
    assert sorted(listed(run)) == ["ACME RoadRunner/1", "ACME RoadRunner/2", "same/1"]


def test_one_signer_may_be_asked_for(run: Run, folder: Path) -> None:
    assert bring(run, folder, "--signer", folder / "other.pem")[0] == 1
    code, _, complaint = bring(run, folder, "--signer", folder / "acme.pem", "--name", "fleet")

    assert code == 0, complaint
    assert list(listed(run)) == ["fleet/1"]


@pytest.mark.parametrize("support", [[], ["changed"], ["box.rimel", "other.pem"]])
def test_support_files_must_be_those_that_were_signed(
    run: Run, folder: Path, support: list[str]
) -> None:
    (folder / "changed").write_bytes(LOG + b"x")
    given = [word for name in support for word in ("--support", folder / name)]

    code, _, complaint = run(
        "reference-values", "import", folder / "box.swidtag", *given,
        "--signer", folder / "acme.pem",
    )  # fmt: skip

    assert code == 1
    assert complaint.startswith("verifier: rim-support-mismatch: the ")
    assert listed(run) == {}


def test_each_event_log_makes_a_set_and_the_rest_is_told(run: Run, folder: Path) -> None:
    second, text = boot_log(b"kernel 6.2"), b"read me"
    (folder / "second.rimel").write_bytes(second)
    (folder / "readme").write_bytes(text)
    files = file(LOG), file(second, "second.rimel"), file(text, "readme")
    (folder / "box.swidtag").write_bytes(press(KEY, tag(*files)))
    more = (
        "--support", folder / "second.rimel", "--support", folder / "readme",
        "--signer", folder / "acme.pem",
    )  # fmt: skip

    assert bring(run, folder, *more, "--name", "x")[0] == 2
    code, _, notes = bring(run, folder, *more)

    assert code == 0
    assert "note: rim/readme is as signed, but no event log" in notes
    assert sorted(listed(run)) == [
        "ACME RoadRunner rim/box.rimel/1", "ACME RoadRunner rim/second.rimel/1",
    ]  # fmt: skip


def test_log_that_is_signed_and_no_log_is_refused(run: Run, folder: Path) -> None:
    (folder / "box.rimel").write_bytes(b"no log")
    (folder / "box.swidtag").write_bytes(press(KEY, tag(file(b"no log"))))

    assert bring(run, folder, "--signer", folder / "acme.pem")[0] == 2
    assert listed(run) == {}


def test_options_of_one_kind_are_not_taken_for_another(run: Run, folder: Path) -> None:
    (folder / "set.toml").write_text('name = "x"')

    assert "options of CoRIMs" in bring(run, folder, "--unsigned")[2]
    refused = run(
        "reference-values", "import", folder / "set.toml", "--support", folder / "box.rimel"
    )
    assert "--support does not apply" in refused[2]


def test_large_base_rim_is_refused(run: Run, folder: Path) -> None:
    (folder / "box.swidtag").write_bytes(b"<" + b" " * MAX_RIM_BYTES)

    assert "too-large" in bring(run, folder)[2]


def test_dry_run_reads_a_rim(run: Run, folder: Path) -> None:
    code, told, complaint = run(
        "reference-values", "dry-run", folder / "box.swidtag",
        "--support", folder / "box.rimel", "--signer", folder / "acme.pem",
    )  # fmt: skip

    assert code == 0, complaint
    assert "0 devices" in told
    assert listed(run) == {}


def test_rim_replaces_no_set_of_another_signer_and_none_by_an_older_tag(
    run: Run, folder: Path
) -> None:
    for name in ("acme", "other"):
        run("reference-values", "signer", "add", name, folder / f"{name}.pem")
    assert bring(run, folder)[0] == 0

    box = folder / "box.swidtag"
    box.write_bytes(press(OTHER, tag(file(LOG))))
    code, _, complaint = bring(run, folder)
    assert code != 0
    assert complaint.startswith("verifier: conflict: 'ACME RoadRunner/1' is of signer 'acme'")
    older = tag(file(LOG), tagVersion="1")
    box.write_bytes(press(KEY, older))
    code, _, complaint = bring(run, folder, "--name", "ACME RoadRunner")
    assert code != 0
    assert complaint.startswith("verifier: conflict: it holds version 1 of tag 'acme-rr-1'")

    assert list(listed(run)) == ["ACME RoadRunner/1"]
