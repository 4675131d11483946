"""The agent's files measured into the PCR of a TPM in software."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.logs.agent_files import AgentFiles
from attestation.logs.cel import RecordKind, decode_cel, replay_cel
from attestation.pcr import parse_selection
from device_agent.errors import SourceUnreadable, TpmUnavailable
from device_agent.measure.agent_log import AgentPlace, MeasuredAgent, Surveyor
from device_agent.measure.folder import hash_file, timeless_devices
from device_agent.measure.log_file import AgentLogFile
from device_agent.measure.patterns import compile_excludes
from device_agent.measure.register import MeasuredRegister, Watch
from tests.simulators import soft_agent
from tests.simulators.soft_device import SoftTpm

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
LATER = timedelta(hours=1)
"""Files written just now have settled by then."""


class FailingTpm(SoftTpm):
    """A TPM that can fail before or after it has extended."""

    fail: str = ""
    extends: int = 0

    def extend_pcr(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        if self.fail == "before":
            raise TpmUnavailable("the line fell before the command")
        super().extend_pcr(pcr, digests)
        self.extends += 1
        if self.fail == "after":
            raise TpmUnavailable("the line fell after the command")


class Scene:
    """One device with one agent; ``daemon()`` starts a new process on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.aibom = soft_agent.install(folder)
        self.state = folder / "state"
        self.tpm = FailingTpm()
        self.boot_id = "11111111-aaaa"
        self.exclude: tuple[str, ...] = ()
        self.most = 1000
        self.told: list[str] = []
        self.later = LATER

    def daemon(self) -> MeasuredAgent:
        excludes = compile_excludes(self.exclude)
        place = AgentPlace(root=self.root, aibom=self.aibom, excludes=excludes)
        watch = Watch(report=self.told.append)
        register = MeasuredRegister(
            self.tpm, 13, AgentLogFile(self.state, self.boot_id), watch, most=self.most
        )
        surveyor = Surveyor(place, lambda: datetime.now(UTC) + self.later, watch)
        return MeasuredAgent(surveyor, register, excludes, watch)

    def files(self, log: bytes | None) -> AgentFiles:
        """Prove the log against the PCR and return what it says."""
        assert log is not None
        parsed = decode_cel(log)
        held = self.tpm.read_pcrs(parse_selection("sha1:13+sha256:13"))
        for bank in (SHA1, SHA256):
            assert replay_cel(parsed, bank) == held[bank][13]
        return AgentFiles.of(record.measured for record in parsed.records)

    def kinds(self, log: bytes | None) -> list[tuple[RecordKind, str]]:
        assert log is not None
        return [(one.measured.kind, one.measured.path) for one in decode_cel(log).records]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_aibom_comes_first_then_every_file_in_order_of_path(scene: Scene) -> None:
    log = scene.daemon().read()

    assert scene.kinds(log) == [
        (RecordKind.AIBOM, "agent.cdx.json"),
        *((RecordKind.FILE, path) for path in sorted(soft_agent.FILES)),
    ]
    for path, one in scene.files(log).present.items():
        assert one.digest.hex() == soft_agent.sha256(soft_agent.FILES[path][1])


def test_nothing_is_extended_while_nothing_changes(scene: Scene) -> None:
    agent = scene.daemon()
    first, extends = agent.read(), scene.tpm.extends

    assert agent.read() == first
    assert scene.tpm.extends == extends == 5


def test_changed_new_and_vanished_files_are_recorded(scene: Scene) -> None:
    agent = scene.daemon()
    before = len(scene.kinds(agent.read()))
    (scene.root / "models/tiny.onnx").write_bytes(b"other weights")
    (scene.root / "extra.so").write_bytes(b"\x7fELF")
    (scene.root / "config/agent.toml").unlink()

    log = agent.read()

    assert scene.kinds(log)[before:] == [
        (RecordKind.REMOVED, "config/agent.toml"),
        (RecordKind.FILE, "extra.so"),
        (RecordKind.FILE, "models/tiny.onnx"),
    ]
    files = scene.files(log)
    assert files.past["models/tiny.onnx"][0].digest.hex() == soft_agent.sha256(b"weights " * 64)
    assert "config/agent.toml" not in files.present


def test_content_changed_with_size_and_mtime_put_back_is_seen(scene: Scene) -> None:
    agent = scene.daemon()
    agent.read()
    model = scene.root / "models/tiny.onnx"
    facts = model.stat()
    model.write_bytes(b"poisons " * 64)
    os.utime(model, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    present = scene.files(agent.read()).present

    assert present["models/tiny.onnx"].digest.hex() == soft_agent.sha256(b"poisons " * 64)


def test_file_that_changed_just_now_is_hashed_again_next_time(scene: Scene) -> None:
    scene.later = timedelta(0)
    agent = scene.daemon()
    agent.read()
    surveyor = agent._surveyor

    assert surveyor._known == {}
    scene.later = LATER
    agent.read()
    in_memory = scene.root.stat().st_dev in timeless_devices()
    assert surveyor._known.keys() == (set() if in_memory else soft_agent.FILES.keys())


def test_new_aibom_is_recorded(scene: Scene) -> None:
    agent = scene.daemon()
    agent.read()
    scene.aibom.write_bytes(soft_agent.text(soft_agent.aibom(version=2)))

    files = scene.files(agent.read())

    assert len(files.aiboms) == 2
    assert files.aibom is not None
    assert files.aibom.digest == tuple(files.aiboms)[1]


def test_excluded_paths_are_not_measured_and_the_log_says_so(scene: Scene) -> None:
    scene.exclude = ("cache", "**/*.log")
    for path in ("cache/a/b", "x.log", "deep/er/y.log", "keep"):
        (scene.root / path).parent.mkdir(parents=True, exist_ok=True)
        (scene.root / path).write_bytes(b"x")

    files = scene.files(scene.daemon().read())

    assert tuple(files.excluded) == ("cache", "**/*.log")
    assert files.present.keys() == {*soft_agent.FILES, "keep"}


def test_no_exclude_hides_a_listed_file(scene: Scene) -> None:
    scene.exclude = ("models", "config/**")

    assert scene.files(scene.daemon().read()).present.keys() == soft_agent.FILES.keys()


@pytest.mark.parametrize("pattern", ["/etc", "../up", "a//b", "**", "**/**", "", "."])
def test_pattern_that_is_not_anchored_below_the_root_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|everything"):
        compile_excludes([pattern])


def test_links_are_followed_only_inside_the_root(scene: Scene) -> None:
    outside = scene.folder / "secret"
    outside.write_bytes(b"s")
    (scene.root / "in.py").symlink_to("agent.py")
    (scene.root / "out").symlink_to(outside)
    (scene.root / "dangling").symlink_to("nothing")
    (scene.root / "loop").symlink_to("loop")
    (scene.root / "folder").symlink_to("models")
    (scene.root / "up").symlink_to("..")

    present = scene.files(scene.daemon().read()).present

    assert present["in.py"].digest == present["agent.py"].digest
    assert present["folder"].kind is RecordKind.LINK
    assert present["folder"].digest.hex() == soft_agent.sha256(b"models")
    for path in ("out", "dangling", "loop", "up"):
        assert present[path].kind is RecordKind.OUTSIDE
    assert "folder/tiny.onnx" not in present


def test_special_files_are_recorded_and_never_opened(scene: Scene) -> None:
    os.mkfifo(scene.root / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(scene.root / "door"))
        present = scene.files(scene.daemon().read()).present

    assert present["pipe"].kind is present["door"].kind is RecordKind.SPECIAL


def test_names_that_are_no_text_are_measured(scene: Scene) -> None:
    (Path(os.fsdecode(os.fsencode(scene.root) + b"/\xff\n"))).write_bytes(b"odd")

    assert "\udcff\n" in scene.files(scene.daemon().read()).present


def test_daemon_started_again_goes_on_with_the_same_log(scene: Scene) -> None:
    first = scene.daemon().read()
    extends = scene.tpm.extends

    assert scene.daemon().read() == first
    assert scene.tpm.extends == extends


def test_file_changed_while_no_daemon_ran_is_recorded(scene: Scene) -> None:
    before = len(scene.kinds(scene.daemon().read()))
    (scene.root / "agent.py").write_bytes(b"evil")

    assert scene.kinds(scene.daemon().read())[before:] == [(RecordKind.FILE, "agent.py")]


def test_crash_between_log_and_extend_is_made_good(scene: Scene) -> None:
    scene.daemon().read()
    (scene.root / "agent.py").write_bytes(b"new")
    scene.tpm.fail = "before"
    with pytest.raises(TpmUnavailable):
        scene.daemon().read()
    scene.tpm.fail = ""

    files = scene.files(scene.daemon().read())

    assert files.present["agent.py"].digest.hex() == soft_agent.sha256(b"new")
    assert scene.told == []


def test_crash_after_extend_extends_nothing_twice(scene: Scene) -> None:
    scene.daemon().read()
    (scene.root / "agent.py").write_bytes(b"new")
    scene.tpm.fail = "after"
    with pytest.raises(TpmUnavailable):
        scene.daemon().read()
    scene.tpm.fail, extends = "", scene.tpm.extends

    scene.files(scene.daemon().read())

    assert scene.tpm.extends == extends
    assert scene.told == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_daemon_that_lives_through_a_tpm_error_goes_on(scene: Scene, moment: str) -> None:
    agent = scene.daemon()
    agent.read()
    (scene.root / "agent.py").write_bytes(b"new")
    (scene.root / "b").write_bytes(b"b")
    scene.tpm.fail = moment
    for _ in range(2):
        with pytest.raises(TpmUnavailable):
            agent.read()
    scene.tpm.fail = ""

    assert {"agent.py", "b"} <= scene.files(agent.read()).present.keys()
    assert scene.told == []


def test_first_record_that_was_never_extended_starts_the_log_anew(scene: Scene) -> None:
    scene.tpm.fail = "before"
    with pytest.raises(TpmUnavailable):
        scene.daemon().read()
    scene.tpm.fail = ""

    assert len(scene.kinds(scene.daemon().read())) == 5


def test_record_that_was_cut_while_it_was_written_is_dropped(scene: Scene) -> None:
    log = scene.daemon().read()
    assert log is not None
    file = AgentLogFile(scene.state, scene.boot_id)
    file.append(log[:77])

    assert scene.daemon().read() == log
    assert file.path.read_bytes() == log
    assert scene.told == []


def test_next_boot_starts_a_new_log_and_forgets_the_old_one(scene: Scene) -> None:
    scene.daemon().read()
    (scene.root / "agent.py").write_bytes(b"new")
    old = scene.daemon().read()
    scene.tpm.reboot()
    scene.boot_id = "22222222-bbbb"

    log = scene.daemon().read()

    assert log != old
    assert scene.files(log).past == {}
    assert [path.name for path in scene.state.iterdir()] == ["agent-log.22222222-bbbb.cel"]


def test_kexec_keeps_the_log_as_it_keeps_the_pcr(scene: Scene) -> None:
    log = scene.daemon().read()
    scene.boot_id = "33333333-cccc"

    assert scene.daemon().read() == log
    assert scene.told == []


def test_foreign_extend_is_said_loudly_and_the_log_goes_on(scene: Scene) -> None:
    before = scene.daemon().read()
    scene.tpm.extend(SHA256, 13, bytes(32))

    after = scene.daemon().read()

    assert before == after
    assert "no log of ours explains" in scene.told[0]


def test_daemon_that_lives_through_a_reset_of_the_tpm_begins_a_new_log(scene: Scene) -> None:
    agent = scene.daemon()
    (scene.root / "agent.py").write_bytes(b"before")
    agent.read()
    (scene.root / "agent.py").write_bytes(b"after")
    agent.read()
    scene.tpm.reboot()  # hibernation, or a TPM that lost its state over sleep

    files = scene.files(agent.read())

    assert files.present["agent.py"].digest.hex() == soft_agent.sha256(b"after")
    assert files.past == {}
    assert scene.told == []


def test_foreign_extend_under_a_living_daemon_is_said_once(scene: Scene) -> None:
    agent = scene.daemon()
    before = agent.read()
    scene.tpm.extend(SHA256, 13, bytes(32))

    assert agent.read() == before
    (scene.root / "agent.py").write_bytes(b"new")
    assert scene.kinds(agent.read())[-1] == (RecordKind.FILE, "agent.py")
    assert len(scene.told) == 1
    assert "no log of ours explains" in scene.told[0]


def test_lost_log_is_said_loudly(scene: Scene) -> None:
    scene.daemon().read()
    AgentLogFile(scene.state, scene.boot_id).path.unlink()

    scene.daemon().read()

    assert "no log of ours explains" in scene.told[0]


def test_unwritable_state_is_reported_once_and_measuring_goes_on(scene: Scene) -> None:
    scene.state.write_bytes(b"a file, where a folder should be")
    agent = scene.daemon()

    scene.files(agent.read())
    (scene.root / "b").write_bytes(b"b")
    scene.files(agent.read())

    assert len(scene.told) == 1
    assert "cannot be written" in scene.told[0]


def test_file_that_flips_endlessly_cannot_fill_the_disk(scene: Scene) -> None:
    scene.most = 12
    agent = scene.daemon()
    for turn in range(40):
        (scene.root / "flip").write_bytes(str(turn).encode())
        log = agent.read()

    kinds = scene.kinds(log)
    assert len(kinds) == 12
    assert kinds[-1] == (RecordKind.FULL, ".")
    assert scene.files(log).full
    assert len(scene.told) == 1
    assert scene.kinds(scene.daemon().read()) == kinds


def test_agent_without_folder_or_aibom_is_an_unreadable_source(scene: Scene) -> None:
    scene.root = scene.folder / "nowhere"
    with pytest.raises(SourceUnreadable, match=r"agent\.root"):
        scene.daemon().read()
    scene.aibom.unlink()
    with pytest.raises(SourceUnreadable, match=r"agent\.aibom"):
        scene.daemon().read()


def test_malformed_aibom_is_measured_all_the_same(scene: Scene) -> None:
    scene.aibom.write_bytes(b"{}")

    assert scene.files(scene.daemon().read()).present.keys() == soft_agent.FILES.keys()


def test_aibom_inside_the_root_is_measured_once(scene: Scene) -> None:
    scene.aibom = scene.aibom.rename(scene.root / "agent.cdx.json")

    kinds = scene.kinds(scene.daemon().read())

    assert [kind for kind, path in kinds if path == "agent.cdx.json"] == [RecordKind.AIBOM]


def test_file_whose_reading_fails_is_recorded_as_unreadable() -> None:
    hashed = hash_file(b"/proc/self", b"mem", lambda: None)

    assert hashed is not None
    assert hashed.kind is RecordKind.UNREADABLE


def test_large_files_are_hashed_in_pieces_with_signs_of_life(tmp_path: Path) -> None:
    beats: list[int] = []
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(600 * 1024 * 1024)

    hashed = hash_file(os.fsencode(tmp_path), b"large", lambda: beats.append(1))

    assert hashed is not None
    assert hashed.kind is RecordKind.FILE
    assert len(beats) == 2
