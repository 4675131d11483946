"""Each of our own checks is seen to bite, and to be silent about what is right."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from attestation.refusals import RefusalCode
from tools import check_no_paths, check_refusals, check_requirements, check_sizes
from tools.tracked import ROOT, report, tracked_files


def function_of(lines: int, name: str = "judge") -> str:
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def sizes_of(root: Path, **files: str) -> list[str]:
    paths = []
    for name, source in files.items():
        path = Path(*name.split("__")).with_suffix(".py")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source)
        paths.append(path)
    return check_sizes.faults(root, paths)


def test_file_of_401_lines_is_refused(tmp_path: Path) -> None:
    assert sizes_of(tmp_path, verifier__long="x = 1\n" * 400) == []

    (fault,) = sizes_of(tmp_path, verifier__long="x = 1\n" * 401)

    assert fault.startswith("verifier/long.py: 401 lines")


def test_test_file_may_have_600_lines_and_no_more(tmp_path: Path) -> None:
    assert sizes_of(tmp_path, tests__long="x = 1\n" * 600) == []
    assert len(sizes_of(tmp_path, tests__long="x = 1\n" * 601)) == 1


def test_function_of_61_lines_is_refused_by_name_and_line(tmp_path: Path) -> None:
    assert sizes_of(tmp_path, tests__one=function_of(60)) == []

    (fault,) = sizes_of(tmp_path, tests__one="\n" + function_of(61))

    assert fault.startswith("tests/one.py:2: judge has 61 lines")


def test_too_many_middling_functions_are_refused(tmp_path: Path) -> None:
    small = "".join(function_of(5, f"small_{number}") for number in range(9))
    assert sizes_of(tmp_path, verifier__nine=small + function_of(30)) == []

    (fault,) = sizes_of(tmp_path, verifier__nine=small + function_of(31))

    assert "90th percentile: 31" in fault


@pytest.mark.parametrize(
    "planted",
    [
        "/" + "work/main/x",
        "/" + "root/.cache",
        "/" + "home/somebody/x",
        "https://" + "pypi." + "org/simple",
        "http://" + "pypi." + "example.com/",
        "pip --extra-" + "index-url x",
    ],
)
def test_machine_path_or_registry_host_is_refused(planted: str) -> None:
    (fault,) = check_no_paths.text_faults(Path("x.py"), f"fine\nsee {planted} there\n")

    assert fault.startswith("x.py:2: ")


@pytest.mark.parametrize(
    "innocent", ["/etc/device-agent/agent.toml", "/run/verifier", "a/work/b", "https://x.example/"]
)
def test_ordinary_path_is_no_machine_path(innocent: str) -> None:
    assert check_no_paths.text_faults(Path("x.py"), innocent) == []


def test_binary_files_and_measured_logs_are_passed_over(tmp_path: Path) -> None:
    planted = b"/" + b"work/x"
    (tmp_path / "tests/data").mkdir(parents=True)
    (tmp_path / "tests/data/log.txt").write_bytes(planted)
    (tmp_path / "image.bin").write_bytes(b"\0" + planted)
    (tmp_path / "code.py").write_bytes(planted)
    paths = [Path("tests/data/log.txt"), Path("image.bin"), Path("code.py")]

    assert [fault[:7] for fault in check_no_paths.faults(tmp_path, paths)] == ["code.py"]


GOOD_PAGE = "| `nonce-reused` | a nonce answered twice | ask for a new one |\n"


def test_page_with_every_code_explained_is_accepted() -> None:
    assert check_refusals.faults(GOOD_PAGE, ["nonce-reused"]) == []


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("", "nonce-reused has no row"),
        (GOOD_PAGE + GOOD_PAGE, "has a row already"),
        (GOOD_PAGE + GOOD_PAGE.replace("nonce-reused", "gone"), "gone is no refusal code"),
        (GOOD_PAGE.replace("a nonce answered twice", ""), "does not say what was seen"),
        (GOOD_PAGE.replace("ask for a new one", "-"), "does not say what to do"),
        (GOOD_PAGE + "| `nonce-reused` | one cell |\n", "not of the form"),
    ],
)
def test_page_that_misses_a_code_or_a_text_is_refused(page: str, complaint: str) -> None:
    faults = check_refusals.faults(page, ["nonce-reused"])

    assert any(complaint in fault for fault in faults), faults


def test_refusal_page_of_this_checkout_explains_every_code() -> None:
    page = (ROOT / check_refusals.PAGE).read_text()

    assert check_refusals.faults(page, list(RefusalCode)) == []


@pytest.mark.parametrize(
    ("packages", "tests", "complaint"),
    [
        ("raise Refused(Code.NONCE_REUSED)", 'code == "nonce-reused"', ""),
        ("raise Refused(Code.NONCE_REUSED)", "is Code.NONCE_REUSED", ""),
        ("", "is Code.NONCE_REUSED", "is given by nothing"),
        ("Code.NONCE_REUSED_TWICE", "is Code.NONCE_REUSED", "is given by nothing"),
        ("Code.NONCE_REUSED", "", "is expected by no test"),
        ("Code.NONCE_REUSED", '"nonce-reused-twice"', "is expected by no test"),
    ],
)
def test_code_that_nothing_gives_or_expects_is_refused(
    packages: str, tests: str, complaint: str
) -> None:
    found = "".join(check_refusals.unshown([RefusalCode.NONCE_REUSED], packages, tests))

    assert bool(found) is bool(complaint)
    assert complaint in found


def test_every_code_of_this_checkout_is_given_and_tested() -> None:
    assert check_refusals.unshown(RefusalCode, *check_refusals.sources()) == []


COLLECTED = ["tests/x.py::test_a", "tests/x.py::test_b[one]", "tests/x.py::test_b[two]"]


@pytest.mark.parametrize(
    "tests", [["tests/x.py::test_a"], ["tests/x.py::test_b"], ["tests/x.py::test_b[two]"]]
)
def test_row_naming_collected_tests_is_accepted(tests: list[str]) -> None:
    assert check_requirements.faults({"R10": tests, "N45": tests}, COLLECTED) == []


@pytest.mark.parametrize(
    ("key", "tests", "complaint"),
    [
        ("R115", ["tests/x.py::test_a"], "R115 is neither"),
        ("N46", ["tests/x.py::test_a"], "N46 is neither"),
        ("R0", ["tests/x.py::test_a"], "R0 is neither"),
        ("X1", ["tests/x.py::test_a"], "X1 is neither"),
        ("R1", [], "names no test"),
        ("R1", "tests/x.py::test_a", "names no test"),
        ("R1", ["tests/x.py::test_a", "tests/x.py::test_a"], "twice"),
        ("R1", ["tests/x.py::test_gone"], "does not collect 'tests/x.py::test_gone'"),
        ("R1", ["tests/x.py::test_b[three]"], "does not collect"),
    ],
)
def test_row_that_claims_more_than_is_there_is_refused(
    key: str, tests: object, complaint: str
) -> None:
    faults = check_requirements.faults({key: tests}, COLLECTED)

    assert len(faults) == 1
    assert complaint in faults[0]


def test_check_ends_with_1_and_speaks_on_stderr_when_a_fault_is_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report("sizes", [], "fits") == 0
    assert report("sizes", ["too long"], "fits") == 1
    assert capsys.readouterr() == ("sizes: fits\n", "sizes: too long\n")


def test_files_that_git_ignores_are_not_looked_at(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in (".gitignore", "seen.py", "hidden.py"):
        (tmp_path / name).write_text("hidden.py\n")

    assert tracked_files(tmp_path) == [Path(".gitignore"), Path("seen.py")]
