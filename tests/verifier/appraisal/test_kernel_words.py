"""Usual command lines are cut in one go: the words must be those of the cut by character."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attestation.boot.facts import BootFacts, Fact, Proof
from attestation.refusals import RefusalCode
from attestation.result import Claim
from verifier.appraisal.boot_checks import CommandLineRule
from verifier.appraisal.boot_seen import BOOT_AS_REQUIRED, Worth
from verifier.appraisal.kernel_words import UnreadableLine, _cut, kernel_words, word_pattern


def words_of(line: str) -> tuple[str, ...] | type[Exception]:
    try:
        return kernel_words(line)[0]
    except UnreadableLine as error:
        return type(error)


def cut(line: str) -> tuple[str, ...] | type[Exception]:
    try:
        return tuple(_cut(line.rstrip("\0")))
    except UnreadableLine as error:
        return type(error)


@given(st.text(alphabet='ab-_= "\t\n\x0b\0\x7f\x1c\xa0é*'))
@example("  quiet  a-b=c-d --  x-y ")
@example('a="b c" d')
@example("a\tb\nc")
@example("a\x1cb")
@example("a\xa0b")
def test_words_are_those_of_the_cut_by_character(line: str) -> None:
    assert words_of(line) == cut(line)


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [("quiet", None), ("single", "single"), ("singles", None), ("init=/bin/sh", "init=/bin/*")],
)
@pytest.mark.parametrize("before", ["", "quiet ", "a b c "])
def test_the_pattern_that_forbids_a_word_is_named(
    words: str, forbidden: str | None, before: str
) -> None:
    patterns = tuple(word_pattern(text) for text in ("rescue", "init=/bin/*", "single"))
    rule = CommandLineRule(
        key="command_line",
        worth=Worth(claim=Claim.EXECUTABLES, otherwise=96, missing=96, met=3),
        forbidden=patterns,
    )
    facts = replace(BootFacts(), command_lines=(Fact(before + words, (Proof(8, 1),)),))
    seen = rule.look(facts)
    if forbidden is None:
        assert seen.code == BOOT_AS_REQUIRED
    else:
        assert seen.code == RefusalCode.COMMAND_LINE_REFUSED
        assert f"({forbidden})" in seen.reason
