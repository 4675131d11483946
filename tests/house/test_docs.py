"""What the documentation says is there, is there: links, make targets, files, commands."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from device_agent.cli import _parser as agent_parser
from tools.tracked import ROOT
from verifier.cli.main import app as verifier_app

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z]+)", page.read_text()))

    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_promises_no_placeholder(page: Path) -> None:
    words = re.findall(r"(?m)^[A-Z]+_[A-Z]+$|\bTODO\b|\bTBD\b|\bFIXME\b", page.read_text())

    assert words == []


def shell_lines(page: Path) -> list[str]:
    """Return the commands of a page's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return [
        re.sub(r"(^|\s)#.*", "", line)
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
    ]


def calls_in(text: str) -> list[tuple[str, list[str]]]:
    """Return (program, words after it) of each call of one of our programs."""
    found = re.findall(r"(?:^|[\s/])(device-agent|verifier) ([a-z][^|>;&]*)", text)
    return [(program, shlex.split(words)) for program, words in found]


def calls_of_pages() -> list[tuple[str, list[str]]]:
    pieces = []
    for page in PAGES:
        pieces += shell_lines(page) + re.findall(r"`([^`\n]+)`", page.read_text())
    return [call for piece in pieces for call in calls_in(piece)]


def options_by_command() -> dict[str, set[str]]:
    """Return the long options of every command: ``verifier devices list`` and the like."""
    found: dict[str, set[str]] = {}

    def walk_verifier(name: str, command: Any) -> None:
        found[name] = {option for item in command.params for option in item.opts}
        for word, below in getattr(command, "commands", {}).items():
            walk_verifier(f"{name} {word}", below)

    def walk_agent(name: str, parser: argparse.ArgumentParser) -> None:
        found[name] = {option for action in parser._actions for option in action.option_strings}
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, below in action.choices.items():
                    walk_agent(f"{name} {word}", below)

    walk_verifier("verifier", typer.main.get_command(verifier_app))
    walk_agent("device-agent", agent_parser())
    return found


COMMANDS = options_by_command()


def command_of(program: str, words: list[str]) -> str | None:
    """Return the longest command that a call names; None if its first word is none."""
    names = [f"{program} {' '.join(words[:count])}" for count in (2, 1)]
    return next((name for name in names if name in COMMANDS), None)


def test_every_command_that_a_page_names_is_a_command() -> None:
    calls = calls_of_pages()

    assert len(calls) > 30
    assert [call for call in calls if command_of(*call) is None] == []


def test_every_option_that_a_page_names_is_an_option_of_its_command() -> None:
    unknown = [
        (name, word)
        for program, words in calls_of_pages()
        if (name := command_of(program, words))
        for word in words
        if word.startswith("--") and word.partition("=")[0] not in COMMANDS[name]
    ]

    assert unknown == []


def test_commands_are_really_looked_up() -> None:
    assert command_of("verifier", ["devices", "list"]) == "verifier devices list"
    assert command_of("verifier", ["results", "edge-a"]) == "verifier results"
    assert command_of("verifier", ["no-such-command"]) is None
    assert "--explain" in COMMANDS["verifier appraise"]
    assert "--serial" in COMMANDS["device-agent factory request"]
