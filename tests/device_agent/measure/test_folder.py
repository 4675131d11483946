"""The agent's folder while somebody changes it under our hands."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attestation.limits import MAX_AIBOM_BYTES
from attestation.logs.cel import RecordKind
from device_agent.errors import SourceUnreadable
from device_agent.measure.agent_log import AgentPlace, Surveyor
from device_agent.measure.folder import (
    MOST_FILE_BYTES,
    Folder,
    _Walk,
    hash_file,
    look,
    read_document,
)
from device_agent.measure.patterns import compile_excludes
from device_agent.measure.register import UNWATCHED
from tests.simulators import soft_agent

NOTHING = compile_excludes(())


def alive() -> None:
    """Nobody watches."""


def looked(root: Path) -> Folder:
    return look(root, excludes=NOTHING, listed=frozenset(), skip=root / "none")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with ``part/data``, and a secret of the same name beside the folder."""
    for folder in ("root/part", "outside"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "data").write_bytes(folder.encode())
    return tmp_path / "root"


def swap(root: Path) -> None:
    """Put a link that leads out in the place of a folder."""
    (root / "part").rename(root.parent / "part.was")
    (root / "part").symlink_to(root.parent / "outside")


def test_file_is_not_read_through_a_folder_that_became_a_link(root: Path) -> None:
    folder = looked(root)
    swap(root)

    hashed = hash_file(folder.base, folder.places["part/data"], alive)

    assert hashed is not None
    assert hashed.kind is RecordKind.UNSTEADY
    assert hashed.digest == bytes(32)


def test_link_within_is_not_read_through_a_folder_that_became_a_link(root: Path) -> None:
    (root / "way").symlink_to("part/data")
    folder = looked(root)
    swap(root)

    hashed = hash_file(folder.base, folder.places["way"], alive)

    assert hashed is not None
    assert hashed.kind is RecordKind.UNSTEADY


def test_folder_that_became_a_link_is_not_looked_into(root: Path) -> None:
    walk = _Walk(os.fsencode(root), NOTHING, frozenset(), frozenset(), b"", 100)
    walk._folder(walk._folders.pop())
    swap(root)

    found = walk.run().found

    assert "part/data" not in found
    assert found["part"].kind is RecordKind.UNREADABLE


def test_root_that_vanishes_is_said_and_never_an_empty_folder(root: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"agent\.root"):
        looked(root / "part/data")
    with pytest.raises(SourceUnreadable, match=r"agent\.root"):
        looked(root / "nowhere")


@pytest.fixture(params=["disk", "memory"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder where pytest has its own, and one in memory."""
    if request.param == "disk":
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_change_through_a_mapping_is_seen_although_its_page_is_dirty_already(
    anywhere: Path,
) -> None:
    root, aibom = soft_agent.install(anywhere)
    model = root / "models/tiny.onnx"
    place = AgentPlace(root=root, aibom=aibom, excludes=NOTHING)
    surveyor = Surveyor(place, lambda: datetime.now(UTC) + timedelta(hours=1), UNWATCHED)
    with model.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = mapped[0:1]  # the page is dirty from here on; later writes tell no clock
        before = surveyor.survey().present["models/tiny.onnx"].digest
        mapped[0:1] = b"X"
        after = surveyor.survey().present["models/tiny.onnx"].digest

    assert after != before
    assert after.hex() == soft_agent.sha256(model.read_bytes())


def test_file_that_grew_beyond_the_cap_has_no_digest_of_its_beginning(root: Path) -> None:
    folder = looked(root)
    os.truncate(root / "part/data", MOST_FILE_BYTES + 1)

    hashed = hash_file(folder.base, folder.places["part/data"], alive)

    assert hashed is not None
    assert hashed.kind is RecordKind.TOO_LARGE


@pytest.mark.parametrize("kind", ["pipe", "pipe behind a link"])
def test_aibom_that_is_no_file_does_not_hang_the_daemon(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "aibom"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        os.mkfifo(tmp_path / "pipe")
        place.symlink_to("pipe")

    with pytest.raises(SourceUnreadable, match="regular file"):
        read_document(place, MAX_AIBOM_BYTES)
