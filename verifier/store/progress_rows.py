"""How far an IMA list is proven, as the JSON text of one column.

Read strictly: whatever is not exactly what we write counts as absent, and then the device is asked
for its list anew. So neither an older nor a newer version of this code, nor a damaged row, can make
a judgement go on from something that was not proven.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.limits import MAX_IMA_ENTRIES
from attestation.logs.ima.progress import RuntimeProgress
from attestation.pcr import PCR_COUNT, PcrBanks

_FORM: Final = 2
"""Changed when the meaning of a field changes; rows of another form are not read."""

_KEYS: Final = frozenset(
    {
        "form",
        "reset_count",
        "entries",
        "aggregates",
        "pcrs",
        "padded",
        "policy",
        "counts",
        "samples",
    }
)
_MAX_RESET_COUNT: Final = 0xFFFFFFFF
_BANKS: Final = {bank.label: bank for bank in HashAlgorithm}


class _Strange(ValueError):
    """The text is not one of ours."""


def encode_progress(progress: RuntimeProgress) -> str:
    """Return the column's text."""
    return json.dumps(
        {
            "form": _FORM,
            "reset_count": progress.reset_count,
            "entries": progress.entries,
            "aggregates": progress.aggregates,
            "pcrs": {
                bank.label: {str(index): value.hex() for index, value in values.items()}
                for bank, values in progress.pcrs.items()
            },
            "padded": progress.padded,
            "policy": progress.policy,
            "counts": dict(progress.counts),
            "samples": {code: list(words) for code, words in progress.samples.items()},
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def decode_progress(text: str | None) -> RuntimeProgress | None:
    """Return what the column holds; None if it is empty, or not exactly what we write."""
    if not text:
        return None
    try:
        return _progress(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _progress(document: object) -> RuntimeProgress:
    if not isinstance(document, dict) or set(document) != _KEYS or document["form"] != _FORM:
        raise _Strange
    padded, policy = document["padded"], document["policy"]
    if not (padded is None or isinstance(padded, bool)) or not isinstance(policy, str):
        raise _Strange
    return RuntimeProgress(
        reset_count=_number(document["reset_count"], _MAX_RESET_COUNT),
        entries=_number(document["entries"], MAX_IMA_ENTRIES),
        aggregates=_number(document["aggregates"], MAX_IMA_ENTRIES),
        pcrs=_pcrs(document["pcrs"]),
        padded=padded,
        policy=policy,
        counts={
            code: _number(count, MAX_IMA_ENTRIES)
            for code, count in _mapping(document["counts"]).items()
        },
        samples={code: _texts(words) for code, words in _mapping(document["samples"]).items()},
    )


def _pcrs(document: object) -> PcrBanks:
    banks: dict[HashAlgorithm, Mapping[int, bytes]] = {}
    for label, values in _mapping(document).items():
        bank = _BANKS.get(label)
        if bank is None:
            raise _Strange
        banks[bank] = {
            _index(index): _digest(value, bank.size) for index, value in _mapping(values).items()
        }
    return banks


def _index(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < PCR_COUNT):
        raise _Strange
    return int(text)


def _digest(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size:
        raise _Strange
    return bytes.fromhex(value)


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise _Strange
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise _Strange
    return tuple(value)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Strange
    return value
