"""Words of a kernel command line, cut as the kernel cuts them, and patterns over them.

Matching is linear in the line: a pattern is one whole word, or the beginning of one when it ends
in ``*``. There is no other wildcard, and no regular expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_BLANKS: Final = " \t\n\v\f\r"
_WILD: Final = "*"
_LAST_WORD: Final = "--"
_QUOTE: Final = '"'


class UnreadableLine(ValueError):
    """A command line that the kernel may cut in another way than we do."""


@dataclass(frozen=True, slots=True)
class WordPattern:
    """One word of a policy: ``ro``, ``lockdown=integrity``, ``init=*``.

    Attributes:
        text: As the policy writes it.
        word: What is compared: quotes cut away, ``-`` in the name as ``_``.
        prefix: Whether a word need only begin like this.
    """

    text: str
    word: str
    prefix: bool

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.word.partition("=")[0]

    def matches(self, word: str) -> bool:
        """Say whether a word of :func:`kernel_words` is meant."""
        return word.startswith(self.word) if self.prefix else word == self.word


def word_pattern(text: str) -> WordPattern:
    """Read one pattern.

    Raises:
        ValueError: If it is not one word, or ``*`` stands elsewhere than at its end.
    """
    prefix = text.endswith(_WILD)
    body = text.removesuffix(_WILD)
    words, _ = kernel_words(body)
    if len(words) != 1 or _WILD in body:
        raise ValueError("wanted one word; * may stand at its end and nowhere else")
    return WordPattern(text=text, word=words[0], prefix=prefix)


def kernel_words(line: str) -> tuple[tuple[str, ...], int]:
    """Cut a command line into words as Linux does (lib/cmdline.c ``next_arg``, kernel/params.c).

    Blanks inside double quotes do not cut; quotes around a word or a value fall away; ``-`` and
    ``_`` are the same in a name.

    Args:
        line: The line; NUL bytes at its end are passed over.

    Returns:
        All words, and how many of them the kernel itself reads: those before ``--``.

    Raises:
        UnreadableLine: If a character is not printable ASCII. The kernel cuts bytes (0xA0 is a
            blank to it), we see characters: what we cannot read alike is not judged.
    """
    text = line.rstrip("\0")
    if _QUOTE not in text and text.isascii() and text.isprintable():  # as nearly all are
        words = tuple([_plain(word) for word in text.split(" ") if word])
    else:
        words = tuple(_cut(text))
    return words, words.index(_LAST_WORD) if _LAST_WORD in words else len(words)


def _cut(text: str) -> list[str]:
    """Cut any line into words, character by character."""
    strange = next((one for one in text if not (" " <= one <= "~" or one in _BLANKS)), None)
    if strange is not None:
        raise UnreadableLine(
            f"the command line holds {strange!a}, which is not printable ASCII: kernel and "
            "verifier may cut it differently"
        )
    words: list[str] = []
    start = 0
    quoted = False
    for place, one in enumerate(text):
        if one == _QUOTE:
            quoted = not quoted
        elif one in _BLANKS and not quoted:
            if place > start:
                words.append(_plain(text[start:place]))
            start = place + 1
    if start < len(text):
        words.append(_plain(text[start:]))
    return words


def _plain(word: str) -> str:
    """Return a word without the quotes that the kernel takes off, its name with underscores."""
    if word.startswith('"'):
        word = word[1:].removesuffix('"')
    name, equals, value = word.partition("=")
    if "-" not in name and value[:1] != '"':  # as most words
        return word
    if value.startswith('"'):
        value = value[1:].removesuffix('"')
    if word == _LAST_WORD:
        return word
    return f"{name.replace('-', '_')}{equals}{value}"
