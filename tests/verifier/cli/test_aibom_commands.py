"""``verifier aibom``, run as an operator runs it, on a store of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.simulators import soft_agent
from tests.simulators.command_line import Run, runner
from tests.simulators.soft_provider import SoftProvider
from verifier.services.reference_values import ReferenceShelf
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    url = f"sqlite:///{tmp_path / 'verifier.sqlite'}"
    migrate(url)
    config = tmp_path / "verifier.toml"
    config.write_text(f'[store]\nurl = "{url}"\n')

    return runner(monkeypatch, capfd, "-c", config, "aibom")


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    return soft_agent.install(tmp_path)


def endorsed(folder: Path, document: Path, provider: SoftProvider) -> Path:
    file = folder / "endorsement.json"
    file.write_text(json.dumps(provider.endorse(document.read_bytes())))
    (folder / "acme.pem").write_text(provider.pem)
    return file


def test_endorsed_aibom_is_added_listed_shown_and_removed(
    run: Run, tmp_path: Path, place: tuple[Path, Path]
) -> None:
    _, document = place
    endorsement = endorsed(tmp_path, document, SoftProvider())

    assert run("trust", "acme", str(tmp_path / "acme.pem"))[0] == 0
    added = run("add", str(document), "--endorsement", str(endorsement))
    listed = run("list")[1].splitlines()
    shown = json.loads(run("show", "field-assistant 2.1", "--json")[1])
    removed = run("remove", "field-assistant 2.1")

    assert added[:2] == (
        0,
        "added field-assistant 2.1: 4 files, 7 components\nendorsed by acme\n",
    )
    assert listed[1].split("\t")[0] == "field-assistant 2.1"
    assert listed[1].endswith("ok")
    assert shown["sha256"] == soft_agent.sha256(document.read_bytes())
    assert shown["endorsement"] == {"state": "ok", "reason": "", "signers": ["acme"]}
    assert removed[0] == 0
    assert json.loads(run("list", "--json")[1]) == []


def test_added_aibom_is_in_the_library_with_its_provider(
    run: Run, tmp_path: Path, place: tuple[Path, Path]
) -> None:
    _, document = place
    endorsement = endorsed(tmp_path, document, SoftProvider())
    run("add", str(document), "--endorsement", str(endorsement))
    shelf = ReferenceShelf(
        open_store(f"sqlite:///{tmp_path / 'verifier.sqlite'}", with_outbox=False)
    )
    digest = bytes.fromhex(soft_agent.sha256(document.read_bytes()))
    before = shelf.current(datetime(2026, 1, 1, tzinfo=UTC)).aiboms[digest]
    run("trust", "acme", str(tmp_path / "acme.pem"))
    after = shelf.current(datetime(2026, 1, 2, tzinfo=UTC)).aiboms[digest]

    assert before.endorsement.code == "provider-unknown"
    assert after.endorsement.code is None


def test_trust_in_a_provider_is_listed_and_taken_back(
    run: Run, tmp_path: Path, place: tuple[Path, Path]
) -> None:
    provider = SoftProvider()
    endorsed(tmp_path, place[1], provider)

    said = json.loads(run("trust", "acme", str(tmp_path / "acme.pem"), "--json")[1])
    listed = json.loads(run("providers", "--json")[1])
    run("distrust", "acme")

    assert said == listed[0] == {"name": "acme", "key_sha256": provider.keyid}
    assert run("providers")[1].splitlines() == ["provider\tkey\tsince"]


def test_endorsement_of_something_else_is_refused_at_once(
    run: Run, tmp_path: Path, place: tuple[Path, Path]
) -> None:
    _, document = place
    provider = SoftProvider()
    endorsement = endorsed(tmp_path, document, provider)
    endorsement.write_text(json.dumps(provider.endorse(b"other")))
    run("trust", "acme", str(tmp_path / "acme.pem"))

    code, _, complaint = run("add", str(document), "--endorsement", str(endorsement))

    assert code == 2
    assert complaint.startswith("verifier: provider-subject-mismatch: ")
    assert json.loads(run("list", "--json")[1]) == []


def test_aibom_that_the_schema_refuses_is_not_added(run: Run, place: tuple[Path, Path]) -> None:
    _, document = place
    document.write_bytes(soft_agent.text(soft_agent.aibom(colour="red")))

    code, _, complaint = run("add", str(document))

    assert code == 2
    assert complaint.startswith("verifier: aibom-malformed: ")
    assert "colour" in complaint


def test_key_that_is_none_is_not_trusted(run: Run, place: tuple[Path, Path]) -> None:
    assert run("trust", "acme", str(place[1]))[0] == 2


def test_folder_is_checked_against_the_aibom(run: Run, place: tuple[Path, Path]) -> None:
    root, document = place
    same = run("check", str(document), "--root", str(root))
    (root / "agent.py").write_bytes(b"evil")
    (root / "models/tiny.onnx").unlink()
    (root / "extra").symlink_to("/etc/passwd")

    code, said, _ = run("check", str(document), "--root", str(root), "--json")

    assert same[0] == 0
    assert code == 1
    found = json.loads(said)
    assert found["changed"] == ["agent.py"]
    assert found["missing"] == ["models/tiny.onnx"]
    assert found["unlisted"] == ["extra"]


def python_of(page: Path) -> str:
    return page.read_text().split("```python\n")[1].split("```")[0]


def test_endorsement_made_as_the_page_says_is_taken(
    run: Run, tmp_path: Path, place: tuple[Path, Path]
) -> None:
    provider = SoftProvider()
    (tmp_path / "acme.pem").write_text(provider.pem)
    (tmp_path / "provider.key").write_bytes(
        provider.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    program = python_of(Path(__file__).parents[3] / "docs/ai-agent.md")

    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    run("trust", "acme", str(tmp_path / "acme.pem"))
    dsse = tmp_path / "agent.dsse.json"
    code, said, complaint = run("add", str(place[1]), "--endorsement", str(dsse))

    assert (code, complaint) == (0, "")
    assert said.endswith("endorsed by acme\n")
