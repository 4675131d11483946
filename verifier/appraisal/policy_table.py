"""Typed reading of a policy's TOML tables; every complaint begins with the key's path."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from attestation.result import TrustTier, tier_of

DIGEST_SIZES: Final = (32, 48, 64)
"""SHA-256, SHA-384, SHA-512: the digests that a rule may name."""

Word = TypeVar("Word", bound=StrEnum)
NamedDigests = Mapping[str, frozenset[bytes]]
"""Digests that rules may call by name."""

NO_NAMES: Final[NamedDigests] = {}


def invalid(where: str, reason: str) -> MalformedInput:
    """Return ``policy-invalid`` for a key, as ``path: reason``."""
    return MalformedInput(
        RefusalCode.POLICY_INVALID, f"{where}: {reason}", structure="AppraisalPolicy"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` for the known word most like this one, or nothing."""
    found = difflib.get_close_matches(word[:64], list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a policy.

    Attributes:
        path: Where it stands: empty for the document, ``boot.dbx``, ``pcrs[2]``.
        items: Its keys and values as ``tomllib`` gives them.
        names: Digests that may be called by name in it.
    """

    path: str
    items: Mapping[str, object]
    names: NamedDigests = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Return the path of a key of this table."""
        return f"{self.path}.{key}" if self.path else key

    def only(self, keys: Collection[str]) -> None:
        """Refuse every key that is not one of these."""
        for key in self.items:
            if key not in keys:
                raise invalid(
                    self.where(key),
                    f"unknown key{nearest(key, keys)} (known are {', '.join(keys)})",
                )

    def table(self, key: str, keys: Collection[str] | None = None) -> Table:
        """Return a table within; one that is there must not be empty, an absent one is."""
        value = self.items.get(key, {})
        if not isinstance(value, dict):
            raise invalid(self.where(key), "wanted a table")
        if key in self.items and not value:
            raise invalid(self.where(key), "is empty; fill it or take it out")
        inner = Table(self.where(key), value, self.names)
        if keys is not None:
            inner.only(keys)
        return inner

    def tables(self, key: str, reason: str) -> Iterator[Table]:
        """Yield the tables of an array of tables; ``reason`` is the complaint if there is none."""
        value = self.items.get(key)
        if not isinstance(value, list) or not value:
            raise invalid(self.where(key), reason)
        for number, one in enumerate(value, 1):
            path = f"{self.where(key)}[{number}]"
            if not isinstance(one, dict):
                raise invalid(path, "wanted a table")
            yield Table(path, one, self.names)

    def text(self, key: str) -> str:
        """Return a text that is not blank."""
        value = self.items.get(key)
        if not isinstance(value, str) or not value.strip():
            raise invalid(self.where(key), "wanted a text")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.items.get(key, default)
        if not isinstance(value, bool):
            raise invalid(self.where(key), "wanted true or false")
        return value

    def number(self, key: str, low: int, high: int) -> int | None:
        """Return an integer within bounds; None if the key is absent."""
        value = self.items.get(key)
        if value is None:
            return None
        if type(value) is not int or not low <= value <= high:
            raise invalid(self.where(key), f"wanted an integer from {low} to {high}")
        return value

    def word(self, key: str, kind: type[Word], default: Word | None) -> Word:
        """Return one word of a closed list."""
        value = self.items.get(key, default)
        try:
            return kind(str(value))
        except ValueError as error:
            words = [word.value for word in kind]
            said = "nothing is said" if value is None else f"{str(value)[:40]!r} is none of them"
            raise invalid(
                self.where(key), f"wanted {' or '.join(words)}, {said}{nearest(str(value), words)}"
            ) from error

    def good(self, key: str) -> int:
        """Return an affirming claim value."""
        value = self._claim_value(key, self.items.get(key))
        tier = tier_of(value)
        if tier is not TrustTier.AFFIRMING:
            raise invalid(
                self.where(key), f"{value} is {tier.label}, wanted an affirming value (2 to 31)"
            )
        return value

    def bad(self, key: str, default: int | None) -> int:
        """Return a warning or contraindicated claim value."""
        value = self._claim_value(key, self.items.get(key, default))
        tier = tier_of(value)
        if tier < TrustTier.WARNING:
            raise invalid(
                self.where(key),
                f"{value} is {tier.label}, wanted a warning (32 to 95) or contraindicated "
                "(96 to 127) value, or a negative one of these tiers",
            )
        return value

    def _claim_value(self, key: str, value: object) -> int:
        if type(value) is not int:
            raise invalid(self.where(key), "wanted an AR4SI value, -128 to 127")
        try:
            tier_of(value)
        except ValueError as error:
            raise invalid(self.where(key), str(error)) from error
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts that are not blank; absent is empty, empty is refused."""
        return tuple(self._text_of(where, value) for where, value in self._elements(key, "texts"))

    @staticmethod
    def _text_of(where: str, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise invalid(where, "wanted a text")
        return value

    def digests(self, key: str, sizes: tuple[int, ...] = DIGEST_SIZES) -> frozenset[bytes]:
        """Return a set of digests: hexadecimal, or names that stand for several."""
        found: set[bytes] = set()
        for where, value in self._elements(key, "digests"):
            text = self._text_of(where, value)
            named = self.names.get(text)
            if named is not None:
                found |= named
                continue
            try:
                digest = bytes.fromhex(text)
            except ValueError as error:
                raise invalid(
                    where,
                    f"{text[:40]!r} is neither hexadecimal nor a name{nearest(text, self.names)}",
                ) from error
            if len(digest) not in sizes:
                raise invalid(
                    where,
                    f"{len(digest)} bytes, wanted {' or '.join(str(size) for size in sizes)}",
                )
            found.add(digest)
        return frozenset(found)

    def _elements(self, key: str, what: str) -> Iterator[tuple[str, object]]:
        value = self.items.get(key)
        if value is None:
            return
        if not isinstance(value, list) or not value:
            raise invalid(self.where(key), f"wanted a list of {what} that is not empty")
        for number, one in enumerate(value, 1):
            yield f"{self.where(key)}[{number}]", one
