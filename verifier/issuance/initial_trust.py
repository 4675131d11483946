"""Initial trust as an expression: what a stranger must show before anything else of it counts.

Grammar: ``expression = term *("OR" term)``, ``term = factor *("AND" factor)``, ``factor = name |
"(" expression ")"``; the names are :class:`TrustName`. AND binds stronger than OR. An empty
expression holds for nobody. There is no NOT: more proofs never make a device less trusted.

What a cloud says of an instance speaks of whoever may ask the cloud's metadata service inside it,
not of a TPM or of a machine's state; so no expression may hold by clouds' words alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from attestation.errors import MalformedInput
from attestation.limits import MAX_TRUST_TERMS
from attestation.refusals import RefusalCode


class TrustName(StrEnum):
    """What initial trust may rest on."""

    IDEVID = "idevid"
    """IDevID and IAK certificates that lead to a manufacturer trusted here."""
    TPM_EK = "tpm-ek"
    """An EK certificate that leads to a TPM maker, and the TPM's answer to a challenge by it."""
    EK_ALLOW_LIST = "ek-allow-list"
    """An EK whose digest the owner has listed, and the TPM's answer to a challenge by it."""
    AWS_IID = "aws-iid"
    """An instance identity document that AWS signed."""
    AZURE_MSI = "azure-msi"
    """A managed identity token that Azure signed."""


CLOUDS: Final = frozenset({TrustName.AWS_IID, TrustName.AZURE_MSI})
"""Names that are never enough, alone or together."""

_TOKEN: Final = re.compile(r"\s*([()]|[A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class TrustExpression:
    """A monotone expression in disjunctive form.

    Attributes:
        text: As it was written.
        ways: The least sets of names that make it hold; empty for one that never does.
    """

    text: str
    ways: tuple[frozenset[TrustName], ...]

    def holds(self, held: Collection[TrustName]) -> bool:
        """Return whether it holds when exactly these names do."""
        return any(way.issubset(held) for way in self.ways)

    @property
    def names(self) -> frozenset[TrustName]:
        """Every name that plays a part."""
        return frozenset[TrustName]().union(*self.ways)


def parse_trust(text: str) -> TrustExpression:
    """Read an expression.

    Args:
        text: As the module says; blank for "nobody".

    Raises:
        MalformedInput: ``policy-invalid`` if it is not of the grammar, too long, or would hold by
            clouds' words alone.
    """
    words = _words(text)
    if not words:
        return TrustExpression(text="", ways=())
    parser = _Parser(words)
    ways = parser.expression()
    if parser.left:
        raise _invalid(f"{parser.left[0]!r} follows where the expression has ended")
    least = tuple(
        sorted((way for way in ways if not any(other < way for other in ways)), key=sorted)
    )
    alone = next((way for way in least if way <= CLOUDS), None)
    if alone is not None:
        raise _invalid(
            f"it holds by {' AND '.join(sorted(alone))} alone; a cloud's word is never enough: "
            "ask for idevid, tpm-ek or ek-allow-list beside it"
        )
    return TrustExpression(text=" ".join(text.split()), ways=least)


def _words(text: str) -> list[str]:
    words = []
    place = 0
    stripped = text.rstrip()
    while place < len(stripped):
        match = _TOKEN.match(stripped, place)
        if match is None:
            raise _invalid(
                f"{stripped[place:].strip()[:20]!r} is neither name, AND, OR nor bracket"
            )
        words.append(match[1])
        place = match.end()
        if len(words) > 4 * MAX_TRUST_TERMS:
            raise _invalid(f"it has more than {MAX_TRUST_TERMS} names")
    return words


class _Parser:
    """Recursive descent; its depth is bounded by the number of words."""

    def __init__(self, words: list[str]) -> None:
        self.left = words

    def expression(self) -> frozenset[frozenset[TrustName]]:
        ways = self._term()
        while self._take("OR"):
            ways |= self._term()
        return ways

    def _term(self) -> frozenset[frozenset[TrustName]]:
        ways = self._factor()
        while self._take("AND"):
            more = self._factor()
            ways = frozenset(one | other for one in ways for other in more)
        return ways

    def _factor(self) -> frozenset[frozenset[TrustName]]:
        if self._take("("):
            inside = self.expression()
            if not self._take(")"):
                raise _invalid("a bracket is not closed")
            return inside
        if not self.left:
            raise _invalid("it ends where a name was wanted")
        word = self.left.pop(0)
        try:
            return frozenset({frozenset({TrustName(word)})})
        except ValueError:
            names = ", ".join(name.value for name in TrustName)
            raise _invalid(f"{word[:40]!r} is none of {names}") from None

    def _take(self, word: str) -> bool:
        if self.left and self.left[0] == word:
            self.left.pop(0)
            return True
        return False


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.POLICY_INVALID, reason, structure="initial_trust")
