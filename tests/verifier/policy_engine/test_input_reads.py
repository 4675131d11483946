"""What a policy reads of its input: never less than it can, and the same answers as with all."""

from __future__ import annotations

import json
import tracemalloc
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from regopy import Interpreter

from verifier.policy_engine.input_reads import InputReads
from verifier.policy_engine.rego import RegoEngine

SHIPPED = (resources.files("verifier.policies") / "device_decision.rego").read_text()
HEAD = "package device_attestation.decision\nimport rego.v1\n"
READERS = {
    "one value": "input.a.b",
    "a value and what is above it": "[input.a.b, input.a]",
    "the whole document": "input",
    "a key in brackets": 'input["a"].b',
    "a key in brackets further down": 'input.a["b"]',
    "a key that is computed": "[v | some k; v := input[k]]",
    "a key further down that is computed": "[v | some k; v := input.a[k]]",
    "an element of a list": "input.c[0].d",
    "keys with the same beginning": "[input.a, input.ab]",
    "a path that may be missing": 'object.get(input, ["a", "b"], -1)',
    "a walk": "[x | walk(input, x)]",
}
IMPORTED = {
    "a path by another name": ("import input.a as given\n", "given.b"),
    "all by another name": ("import input as given\n", "given.a.b"),
}

leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abd"), inner, max_size=3)
    ),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["a", "ab", "c", "other"]), values, max_size=4)


def asked_plainly(policy: str, document: object) -> str:
    """Ask rego-cpp about the whole document."""
    interpreter = Interpreter()
    interpreter.strict_built_in_errors = True
    interpreter.add_module("decision", policy)
    interpreter.set_input_term(json.dumps(document))
    return str(interpreter.query("data.device_attestation.decision.decision"))


def policy_that_reads(expression: str, imports: str = "") -> str:
    return f'{HEAD}{imports}default decision := "nothing"\ndecision := {{"told": {expression}}}\n'


POLICIES = {name: policy_that_reads(one) for name, one in READERS.items()} | {
    name: policy_that_reads(one, imports) for name, (imports, one) in IMPORTED.items()
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_answer_is_that_of_the_whole_document(name: str) -> None:
    reads = InputReads(POLICIES[name])

    @settings(max_examples=40)
    @given(documents)
    def holds(document: dict[str, Any]) -> None:
        seen = reads.of(document)
        assert asked_plainly(POLICIES[name], seen) == asked_plainly(POLICIES[name], document)

    holds()


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("x := 1", set()),
        ("input.a.b", {("a", "b")}),
        ("input.a.b\ninput.a", {("a",)}),
        ("input.a; f(input)", {()}),
        ("input [k]", {()}),
        ('# see input.c\n"input.d"', {("c",), ("d",)}),
        ("p with input as {}", {()}),
        ("my_input.a", set()),
    ],
)
def test_every_place_that_names_the_input_is_found(text: str, paths: set[Any]) -> None:
    assert InputReads(text).paths == paths


def test_the_shipped_policy_reads_four_kinds_of_value() -> None:
    reads = InputReads(SHIPPED)

    assert reads.repeatable
    assert reads.paths == {
        ("now",),
        ("revoked",),
        ("posture", "status"),
        ("posture", "iat"),
        ("posture", "exp"),
    }


def test_an_answer_by_the_clock_is_not_remembered() -> None:
    engine = RegoEngine(
        HEAD + 'decision := {"allow": false, "reasons": [sprintf("%d", [time.now_ns()])]}\n'
    )

    assert engine.answer({}) != engine.answer({})


@pytest.mark.parametrize("space", ["time", "rand", "uuid", "http", "net", "opa", "io", "crypto"])
def test_a_policy_that_may_answer_otherwise_each_time_is_known(space: str) -> None:
    assert not InputReads(f"x := {space}.call(1)").repeatable


def test_a_remembered_answer_is_of_the_same_question_only() -> None:
    engine = RegoEngine(
        HEAD + "default allow := false\nallow if input.revoked == false\n"
        'decision := {"allow": allow, "reasons": []}\n'
    )

    asked = [{"revoked": False, "seq": 1}, {"revoked": True}, {"revoked": False, "seq": 2}, {}]

    assert [engine.answer(one).allow for one in asked * 2] == [True, False, True, False] * 2


def test_long_questions_are_not_remembered() -> None:
    engine = RegoEngine(
        HEAD + 'decision := {"allow": input.allow == true, "reasons": input.told}\n'
        'default decision := {"allow": false, "reasons": []}\n'
    )
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    for number in range(100):
        told = [f"{number} {'x' * 50_000}"]
        assert engine.answer({"allow": True, "told": list(told)}).reasons == tuple(told)

    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 1_000_000
