"""Every key of a TOML text is found on its line."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from verifier.appraisal.policy_lines import KeyLines

TEXT = '''\
id = "a" # [not.a.table]
"quoted key" = """
pcrs = 1
\\""" x = 2
"""

[boot]
dbx = { entries = 3, at_least = [
  "aa", # "bb"
  'c]c',
], otherwise = 32 }
secure_boot.state = "on"

[[pcrs]]
indices = [
  0,
  1,
]
known = 2
[[pcrs]]
known = 3
[pcrs.more]
deep = {a = {b = 1}}
literal = \'\'\'
x = 1\'\'\'
last = 1'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("id", 1),
        ("quoted key", 2),
        ("boot", 7),
        ("boot.dbx", 8),
        ("boot.dbx.entries", 8),
        ("boot.dbx.at_least[1]", 9),
        ("boot.dbx.at_least[2]", 10),
        ("boot.dbx.otherwise", 11),
        ("boot.secure_boot.state", 12),
        ("pcrs[1]", 14),
        ("pcrs[1].indices[2]", 17),
        ("pcrs[1].known", 19),
        ("pcrs[2].known", 21),
        ("pcrs[2].more.deep.a.b", 23),
        ("pcrs[2].more.last", 26),
    ],
)
def test_key_is_found_on_its_line(path: str, line: int) -> None:
    tomllib.loads(TEXT)

    assert KeyLines(TEXT).find(path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [("boot.dbx.missing", 8), ("boot.absent", 7), ("pcrs[2].indices[7]", 20), ("pcrs", 14)],
)
def test_absent_key_is_told_by_the_table_around_it(path: str, line: int) -> None:
    assert KeyLines(TEXT).find(path) == line


def test_unknown_path_has_no_line() -> None:
    assert KeyLines(TEXT).find("nothing.of.this") is None
    assert KeyLines("").find("id") is None


@pytest.mark.parametrize("text", ["= = =", "[", "[[", '"', "a = [", "a = {b", "a = '", "\\", "]"])
def test_text_that_is_not_toml_ends_too(text: str) -> None:
    assert KeyLines(text).find("zzz") is None


@pytest.mark.parametrize("name", ["linux-server", "development"])
def test_every_key_of_a_shipped_policy_has_its_line(name: str) -> None:
    text = (resources.files("verifier.policies") / f"{name}.toml").read_text()
    lines = KeyLines(text)
    rows = text.splitlines()

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for number, inner in enumerate(value, 1):
                walk(inner, f"{path}[{number}]")
        else:
            line = lines.find(path)
            assert line is not None
            assert path.rpartition(".")[2].partition("[")[0] in rows[line - 1] or "[" in path

    walk(tomllib.loads(text), "")


@pytest.mark.parametrize("path", ["]", "a.]", "p..c\\].", "[", "a[1]]", "."])
def test_key_of_odd_signs_is_looked_for_and_not_found(path: str) -> None:
    assert KeyLines('["x"]\n').find(path) is None
