"""A bounded memory of judged logs: a log that was read once is not read again.

What a log leads to depends on its bytes and on what is asked of it, on nothing else; so what one
device sent serves every device that sends the same. Bounded by entries and by bytes of log, oldest
use goes first. One memory may serve several threads: each operation on the dictionary is atomic,
and a lost race costs a second reading, never a wrong one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Judged(Protocol):
    """A judged log of a known size."""

    @property
    def size(self) -> int:
        """Bytes of the log."""


KeyT = TypeVar("KeyT")
JudgedT = TypeVar("JudgedT", bound=Judged)


class LogMemory(Generic[KeyT, JudgedT]):
    """Remembers judged logs by what they follow from.

    Args:
        entries: At most so many logs.
        size: At most so many bytes of log; a larger log is not remembered.
    """

    __slots__ = ("_bytes", "_entries", "_kept")

    def __init__(self, *, entries: int, size: int) -> None:
        self._entries = entries
        self._bytes = size
        self._kept: OrderedDict[KeyT, JudgedT] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: KeyT) -> JudgedT | None:
        """Return the judged log, or None if it is not remembered."""
        found = self._kept.get(key)
        if found is not None:
            try:  # noqa: SIM105 - asked for each evidence: suppress costs two calls
                self._kept.move_to_end(key)
            except KeyError:  # another thread has just let it go; ours is still right
                pass
        return found

    def put(self, key: KeyT, judged: JudgedT) -> None:
        """Remember a judged log; forget the longest unused ones beyond the bounds."""
        if judged.size > self._bytes:
            return
        kept = self._kept
        kept[key] = judged
        total = sum(one.size for one in tuple(kept.values()))
        while len(kept) > self._entries or total > self._bytes:
            try:
                total -= kept.popitem(last=False)[1].size
            except KeyError:  # another thread emptied it
                return
