"""The folder of AI agents: what is written is read, whole or not at all, and by whom."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation.identity import agent_name
from device_agent.agents import AgentRecord, Certified, Wish
from device_agent.errors import AgentUnknown, SettingsInvalid, StateCorrupt, StateUnwritable
from device_agent.lifecycle import Fault
from device_agent.state.agents import AgentShelf, decode_record, encode_record
from device_agent.state.documents import digest_of
from device_agent.state.files import StateHeld
from tests.simulators.soft_device import SoftTpm

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = agent_name("planner")
FULL = AgentRecord(
    name=NAME,
    key=SoftTpm().create_wrapped(),
    wish=Wish(
        capabilities=("mail.read", "mail.send"),
        locator="https://e.test/planner",
        validation_methods=("wit",),
        owner_binding="a.b.c",
        provider_endorsement=b'{"payloadType": "x"}',
    ),
    certified=Certified(
        agent_id="spiffe://e.test/device/d/agent/planner",
        certificate_chain_pem="-----BEGIN CERTIFICATE-----\n",
        obtained_at=AT,
        not_after=AT + timedelta(days=9),
        renew_at=AT + timedelta(days=6),
        token="x.y.z",  # noqa: S106 - not one
        token_obtained_at=AT,
        token_expires_at=AT + timedelta(hours=1),
        owner="alice",
        capabilities=("mail.read",),
    ),
    asked=True,
    failures=3,
    retry_at=AT + timedelta(minutes=1),
    fault=Fault(code="overloaded", reason="later", at=AT),
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    shelf = AgentShelf(tmp_path)
    bare = AgentRecord(name=agent_name("bare"), key=SoftTpm().create_wrapped())

    shelf.save(FULL)
    shelf.save(bare)

    assert shelf.names() == ("bare", "planner")
    assert shelf.load(NAME) == FULL
    assert shelf.load(bare.name) == bare


def test_everything_is_the_daemons_alone_unless_a_group_is_named(tmp_path: Path) -> None:
    AgentShelf(tmp_path).save(FULL)

    agents = tmp_path / "agents"
    assert mode(agents) == 0o700
    assert mode(agents / "planner") == 0o700
    assert {path.name: mode(path) for path in (agents / "planner").iterdir()} == {
        "agent.json": 0o600,
        "certificate.pem": 0o600,
        "provider-endorsement.json": 0o600,
        "token": 0o600,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_certificate_and_token_are_put_out_for_the_agents_group_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    group = grp.getgrgid(1).gr_name
    shelf = AgentShelf(tmp_path / "state", tmp_path / "out")

    shelf.save(replace(FULL, wish=replace(FULL.wish, group=group)))

    place = shelf.place(NAME)
    assert place == tmp_path / "out" / "planner"
    assert (mode(place), place.stat().st_gid) == (0o750, 1)
    for name, text in (("certificate.pem", "-----BEGIN CERTIFICATE-----\n"), ("token", "x.y.z")):
        assert (place / name).read_text() == text
        assert (mode(place / name), (place / name).stat().st_gid) == (0o640, 1)
    assert sorted(path.name for path in place.iterdir()) == ["certificate.pem", "token"]
    home = tmp_path / "state" / "agents" / "planner"
    assert mode(home / "agent.json") == 0o600


def test_what_was_put_out_comes_back_after_a_reboot_emptied_the_folder(tmp_path: Path) -> None:
    shelf = AgentShelf(tmp_path / "state", tmp_path / "out")
    shelf.save(FULL)
    token = tmp_path / "out" / "planner" / "token"
    before = token.stat().st_ino
    shelf.put_out(FULL)
    assert token.stat().st_ino == before
    token.unlink()
    (tmp_path / "out" / "planner" / "certificate.pem").write_text("another")

    shelf.put_out(FULL)

    assert token.read_text() == "x.y.z"
    assert (token.parent / "certificate.pem").read_text().startswith("-----BEGIN")


def test_a_group_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="no group 'nobody-has-this'"):
        AgentShelf(tmp_path).save(replace(FULL, wish=Wish(group="nobody-has-this")))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_group_that_the_daemon_is_not_in_is_told_with_what_to_do() -> None:
    """As the unprivileged user that the daemon is, in a process of its own."""
    nobody, group = 65534, grp.getgrgid(1).gr_name
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)
            record = replace(FULL, wish=replace(FULL.wish, group=group))
            AgentShelf(folder / "state", folder / "out").save(record)
        except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        words = told.read().decode()
    leaked = list((folder / "out" / "planner").iterdir())
    shutil.rmtree(folder)

    assert words.startswith("StateUnwritable: state-unwritable: ")
    assert f"cannot be given to group {group}" in words
    assert "must be in that group" in words
    assert leaked == []


def test_an_agent_that_is_removed_leaves_nothing(tmp_path: Path) -> None:
    shelf = AgentShelf(tmp_path / "state", tmp_path / "out")
    shelf.save(FULL)

    shelf.remove(NAME)

    assert shelf.names() == ()
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "state" / "agents" / "planner").exists()
    with pytest.raises(AgentUnknown, match="no agent planner"):
        shelf.load(NAME)


def test_what_is_no_agents_name_is_no_agent(tmp_path: Path) -> None:
    shelf = AgentShelf(tmp_path)
    shelf.save(FULL)
    for name in ("Upper", "-dash", "a_b", "x" * 64):
        (tmp_path / "agents" / name).mkdir()
        (tmp_path / "agents" / name / "agent.json").write_text("{}")

    assert shelf.names() == ("planner",)


def test_a_record_under_another_name_is_corrupt(tmp_path: Path) -> None:
    shelf = AgentShelf(tmp_path)
    shelf.save(FULL)
    (tmp_path / "agents" / "other").mkdir()
    (tmp_path / "agents" / "other" / "agent.json").write_bytes(encode_record(FULL))

    with pytest.raises(StateCorrupt, match="is the record of planner"):
        shelf.load(agent_name("other"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"version": 1}',
        b'{"version": 2, "digest": "", "agent": {}}',
        b'{"version": 1, "digest": "00", "agent": {}}',
        b"[" * 100_000,
        b" " * (1024 * 1024 + 1),
    ],
)
def test_a_damaged_record_is_corrupt(tmp_path: Path, content: bytes) -> None:
    shelf = AgentShelf(tmp_path)
    shelf.save(FULL)
    (tmp_path / "agents" / "planner" / "agent.json").write_bytes(content)

    with pytest.raises(StateCorrupt):
        shelf.load(NAME)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "No Name"),
        ("capabilities", ["b", "a"]),
        ("capabilities", "word"),
        ("validation_methods", ["with blank"]),
        ("key", {"public": "AAAA", "wrapped": "AAAA"}),
        ("key", {"public": "!", "wrapped": ""}),
        ("retry_at", "2026-03-01T12:00:00"),
        ("failures", "many"),
    ],
)
def test_a_record_with_a_true_digest_is_still_read_strictly(key: str, value: object) -> None:
    body = {**json.loads(encode_record(FULL))["agent"], key: value}
    content = json.dumps({"version": 1, "digest": digest_of(body), "agent": body}).encode()

    with pytest.raises(StateCorrupt):
        decode_record(content, b"", "agent.json")


def test_an_edited_record_is_noticed() -> None:
    document = json.loads(encode_record(FULL))
    document["agent"]["capabilities"].append("root")

    with pytest.raises(StateCorrupt, match="does not match its own digest"):
        decode_record(json.dumps(document).encode(), b"", "agent.json")


def test_a_token_is_not_written_through_a_planted_link(tmp_path: Path) -> None:
    shelf = AgentShelf(tmp_path / "state", tmp_path / "out")
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "out" / "planner").mkdir(parents=True)
    (tmp_path / "out" / "planner" / ".token.new").symlink_to(target)

    with pytest.raises(StateUnwritable):
        shelf.save(FULL)

    assert target.read_text() == "precious"


def test_daemon_and_commands_keep_apart(tmp_path: Path) -> None:
    with AgentShelf(tmp_path).held(), pytest.raises(StateHeld), AgentShelf(tmp_path).held():
        pass
    held, done = threading.Event(), threading.Event()

    def work() -> None:
        with AgentShelf(tmp_path).held():
            held.set()
            done.wait(0.3)

    other = threading.Thread(target=work)
    other.start()
    held.wait()
    with AgentShelf(tmp_path).held(wait_s=5):
        pass
    other.join()


def test_a_folder_that_cannot_be_made_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "agents").write_text("in the way")

    with pytest.raises(StateUnwritable):
        AgentShelf(tmp_path).save(FULL)
