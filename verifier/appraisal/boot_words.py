"""Boot facts in words, for telling what changed from one boot to another."""

from __future__ import annotations

from typing import Final

from attestation.algorithms import short_digest
from attestation.boot.facts import Authority, BootEntry, Image

_MAX_CHARS: Final = 400
"""Of one sentence; the longest real command line has 700, and only its changes are told."""


def plain(text: str) -> str:
    """Return a text from a log as one short line without control characters."""
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[:_MAX_CHARS])
    return shown + ("…" if len(text) > _MAX_CHARS else "")


def on_off(value: bool) -> str:  # noqa: FBT001 - a fact's value
    """Say ``on`` or ``off``."""
    return "on" if value else "off"


def yes_no(value: bool) -> str:  # noqa: FBT001 - a fact's value
    """Say ``yes`` or ``no``."""
    return "yes" if value else "no"


def order_words(value: tuple[int, ...]) -> str:
    """Return a boot order as firmware shows it."""
    return ", ".join(f"{number:04X}" for number in value) or "empty"


def entry_words(value: BootEntry) -> str:
    """Return a boot entry."""
    return f"{value.number:04X} {value.description} {value.path}".rstrip()


def authority_words(value: Authority) -> str:
    """Say who admitted an image."""
    when = ", before the firmware was done" if value.before_separator else ""
    return f"{value.variable}: {value.subject or 'hash'} ({short_digest(value.digest)}{when})"


def image_words(value: Image) -> str:
    """Return an image."""
    return f"{value.kind.value} {short_digest(value.digest)} {value.path}".rstrip()
