"""What a policy engine is to the verifier: one question in JSON, one answer or a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""A JSON value."""

JsonObject = dict[str, JsonValue]
"""A JSON object."""


class EngineFault(Exception):
    """The engine gave no usable answer. Whoever asks must deny."""


class PolicyRejected(Exception):
    """The engine does not take the policy: empty, unparsable or without a decision rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAnswer:
    """What the policy said.

    Attributes:
        allow: Whether it allows.
        reasons: Why not, ``code: words`` each; empty when it allows.
    """

    allow: bool
    reasons: tuple[str, ...]


class PolicyEngine(Protocol):
    """Evaluates one loaded policy."""

    def answer(self, document: Mapping[str, JsonValue]) -> EngineAnswer:
        """Evaluate the policy over one document.

        Raises:
            EngineFault: If the answer is undefined, an error, or not of the expected shape.
        """
        ...
