"""RegoEngine: Rego in this process, through Microsoft's rego-cpp (regopy).

Rules, each found by trial: compile once and query the bundle (a query by text costs a compilation
each time); strict built-in errors, else a failing built-in is silently undefined and a ``deny``
rule that uses it is lost; an error then comes as the *value* ``"<error>"``, not as an exception;
one interpreter for each thread. Whatever is not exactly ``{"allow": bool, "reasons": [text]}`` is
an :class:`EngineFault`, and whoever asks denies. The input goes in as a JSON term: the ``Input``
objects of regopy 1.5 are twice as fast, but leave quotes in strings unescaped.

Only what the policy can read of a document is put before it, and if nothing in the policy depends
on clock, chance or network, its answer to that is remembered: in one second, many devices with the
same status have the same question (:mod:`verifier.policy_engine.input_reads`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from regopy import Interpreter, LogLevel, RegoError

from verifier.decision.engine import EngineAnswer, EngineFault, JsonValue, PolicyRejected
from verifier.policy_engine.input_reads import InputReads

DEFAULT_QUERY: Final = "data.device_attestation.decision.decision"
"""The rule that is asked."""

ANSWERS_KEPT: Final = 1024
"""Answers remembered."""

LONGEST_KEPT_CHARS: Final = 4096
"""Longer questions are not remembered: whoever asks all of a document hardly asks the same again,
and what a result tells of a device may be long."""


_ENVIRONMENT: Final = (
    "the decision policy uses opa.runtime, which tells this process's environment: what is secret "
    "there could come to stand in a reason"
)
_BREAKS_DOWN: Final = (
    "the decision policy imports the whole of data by another name, at which the engine (rego-cpp "
    "1.5) breaks down; name what you need: import data.config"
)
_REFUSED: Final = (
    (re.compile(r"\bopa\s*[.\[]"), _ENVIRONMENT),
    (re.compile(r"\bimport\s+data\s+as\b"), _BREAKS_DOWN),
)
"""What stands in no policy that we load, and why; comments and texts count too."""


@dataclass(slots=True)
class _Loaded:
    """One thread's interpreter with its compiled policy."""

    interpreter: Any
    bundle: Any


class RegoEngine:
    """A decision policy in Rego, compiled once for each thread.

    Args:
        policy: The Rego module's text.
        config: What the policy finds as ``data.config``.
        query: The rule asked; must yield ``{"allow": bool, "reasons": [text]}``.

    Raises:
        PolicyRejected: If the policy is empty, does not parse or compile, or does not answer the
            query with a denial when it is asked about nothing.
    """

    def __init__(
        self,
        policy: str,
        *,
        config: Mapping[str, JsonValue] | None = None,
        query: str = DEFAULT_QUERY,
    ) -> None:
        if not policy.strip():
            raise PolicyRejected("the decision policy is empty; an empty policy decides nothing")
        for words, why in _REFUSED:
            if words.search(policy):
                raise PolicyRejected(why)
        self._policy = policy
        self._config = json.dumps({"config": dict(config or {})})
        self._query = query
        self._local = threading.local()
        self._reads = InputReads(policy)
        self._ask = self._evaluate
        if self._reads.repeatable:
            self._ask = lru_cache(maxsize=ANSWERS_KEPT)(self._evaluate)
        try:
            refusal = self.answer({})
        except EngineFault as error:
            raise PolicyRejected(f"the decision policy does not answer {query}: {error}") from error
        if refusal.allow:
            raise PolicyRejected("the decision policy allows a device of which nothing is known")

    def answer(self, document: Mapping[str, JsonValue]) -> EngineAnswer:
        """Evaluate the policy over one document.

        Raises:
            EngineFault: If the answer is undefined, an error or of another shape.
            PolicyRejected: If this thread's interpreter cannot be made.
        """
        try:
            term = json.dumps(self._reads.of(document))
        except (ValueError, TypeError) as error:
            raise EngineFault("the document is not JSON") from error
        return self._ask(term) if len(term) <= LONGEST_KEPT_CHARS else self._evaluate(term)

    def _evaluate(self, term: str) -> EngineAnswer:
        loaded: _Loaded | None = getattr(self._local, "loaded", None)
        if loaded is None:
            loaded = self._local.loaded = self._load()
        try:
            loaded.interpreter.set_input_term(term)
            text = str(loaded.interpreter.query_bundle(loaded.bundle))
        except (RegoError, ValueError, TypeError) as error:
            raise EngineFault("the engine failed") from error
        return _read_answer(text)

    def _load(self) -> _Loaded:
        interpreter = Interpreter()
        interpreter.log_level = LogLevel.NONE
        interpreter.strict_built_in_errors = True
        try:
            interpreter.add_module("decision", self._policy)
            interpreter.add_data_json(self._config)
            return _Loaded(interpreter=interpreter, bundle=interpreter.build(self._query))
        except RegoError as error:
            raise PolicyRejected("the decision policy does not parse or compile") from error


def _read_answer(text: str) -> EngineAnswer:
    """Read rego-cpp's output: ``{"expressions":[{"allow":…, "reasons":[…]}]}``."""
    try:
        output = json.loads(text)
        value = output["expressions"][0]
    except (ValueError, LookupError, TypeError) as error:
        raise EngineFault(f"the answer is not one value: {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise EngineFault(f"the answer is {str(value)[:80]!r}, wanted allow and reasons")
    allow, reasons = value.get("allow"), value.get("reasons")
    if not isinstance(allow, bool) or not isinstance(reasons, list):
        raise EngineFault("the answer lacks allow (true or false) or reasons (a list)")
    if not all(isinstance(reason, str) and reason != "<error>" for reason in reasons):
        raise EngineFault("a built-in function of the policy failed")
    return EngineAnswer(allow=allow, reasons=tuple(reasons))
