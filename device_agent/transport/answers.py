"""What the verifier answers, read strictly and bounded; its words are made safe to print.

Nothing here believes more than that TLS has shown who answers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from cryptography import x509

from attestation.errors import AttestationError
from attestation.limits import MAX_IMA_ENTRIES
from attestation.pcr import parse_selection
from attestation.refusals import RefusalCode
from device_agent.errors import VerifierRefused, VerifierUnreachable
from device_agent.ports import ChallengeReply
from device_agent.transport.connection import Answer

_MOST_REASON_CHARS: Final = 500
_MOST_NONCE_BYTES: Final = 64
_MOST_WORDS: Final = 256
_MOST_WORD_CHARS: Final = 256
_MOST_TEXT_CHARS: Final = 128 * 1024
"""A signed result and a certificate chain have a few thousand; the state file holds both."""

_OK: Final = range(200, 300)
_SERVER_FAULT: Final = 500
_MOST_NUMBER: Final = 1e9


class VerifierAskedToWait(VerifierRefused):
    """A refusal with a Retry-After.

    Attributes:
        retry_after_s: Seconds that the verifier asks us to wait.
    """

    def __init__(self, code: str, reason: str, *, http_status: int, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(code, reason, http_status=http_status)


def printable(text: object, most_chars: int = _MOST_REASON_CHARS) -> str:
    """Return foreign words fit for a terminal and a log: bounded, no control characters."""
    cut = str(text)[:most_chars]
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


def read_document(answer: Answer) -> Mapping[str, object]:
    """Return the JSON object of a good answer, or raise what a bad one says."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if answer.status in _OK:
        if not isinstance(document, dict):
            raise strange("is not a JSON object")
        return document
    code = document.get("code") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(code, str):
        if answer.status >= _SERVER_FAULT:
            raise VerifierUnreachable(f"the verifier answers HTTP {answer.status}")
        raise VerifierRefused(
            RefusalCode.REQUEST_INVALID,
            f"the verifier answers HTTP {answer.status} without saying why",
            http_status=answer.status,
        )
    reason = document.get("detail") or document.get("title") or f"HTTP {answer.status}"
    raise _refused(printable(code, 64), printable(reason), answer)


def _refused(code: str, reason: str, answer: Answer) -> VerifierRefused:
    try:
        pause = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return VerifierRefused(code, reason, http_status=answer.status)
    return VerifierAskedToWait(
        code, reason, http_status=answer.status, retry_after_s=max(0.0, pause)
    )


def strange(what: str) -> VerifierUnreachable:
    """Return the error for an answer that no verifier of ours gives."""
    return VerifierUnreachable(f"something answers at verifier.url, but its answer {what}")


def text_of(document: Mapping[str, object], key: str) -> str:
    """Return a text that fits into the state file and can be written anywhere."""
    value = document.get(key)
    if not isinstance(value, str) or not value.isascii() or len(value) > _MOST_TEXT_CHARS:
        raise strange(f"has no ASCII text {key!r} of at most {_MOST_TEXT_CHARS} characters")
    return value


def number_of(document: Mapping[str, object], key: str) -> float:
    """Return a number that is not negative."""
    value = document.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < _MOST_NUMBER
    ):
        raise strange(f"has no number {key!r}")
    return float(value)


def ima_next_of(document: Mapping[str, object]) -> int:
    """Return where the IMA list goes on; 0, the whole list, from a verifier that does not say."""
    value = document.get("ima_next", 0)
    if type(value) is not int or not 0 <= value <= MAX_IMA_ENTRIES:
        raise strange(f"has an ima_next that is not 0 to {MAX_IMA_ENTRIES}")
    return value


def flag_of(document: Mapping[str, object], key: str) -> bool:
    """Return true or false."""
    value = document.get(key)
    if not isinstance(value, bool):
        raise strange(f"has no flag {key!r}")
    return value


def challenge_of(document: Mapping[str, object]) -> ChallengeReply:
    """Return a challenge that can be answered."""
    try:
        selections = parse_selection(text_of(document, "pcr_selection"))
    except AttestationError as error:
        raise strange("holds no challenge that can be answered") from error
    return ChallengeReply(
        nonce=nonce_of(document, "nonce"),
        selections=selections,
        expires_in_s=number_of(document, "expires_in_s"),
    )


def nonce_of(document: Mapping[str, object], key: str) -> bytes:
    """Return a nonce, base64url."""
    nonce = octets_of(document, key)
    if not 0 < len(nonce) <= _MOST_NONCE_BYTES:
        raise strange(f"holds a nonce that is not 1 to {_MOST_NONCE_BYTES} bytes")
    return nonce


def octets_of(document: Mapping[str, object], key: str) -> bytes:
    """Return bytes, written as base64url without padding."""
    text = text_of(document, key)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise strange(f"holds no base64url {key!r}: no challenge that can be answered") from error


def moment_of(document: Mapping[str, object], key: str) -> datetime:
    """Return a moment with its time zone."""
    try:
        moment = datetime.fromisoformat(text_of(document, key))
    except ValueError as error:
        raise strange(f"holds no time {key!r}") from error
    if moment.tzinfo is None:
        raise strange("holds a time without time zone")
    return moment


def words_of(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Return a list of words, made safe to print."""
    words = document.get(key)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise strange(f"has no list of words {key!r}")
    return tuple(printable(word, _MOST_WORD_CHARS) for word in words[:_MOST_WORDS])


def begin_of(chain_pem: str) -> datetime | None:
    """Return when the leaf begins; what uses the chain will say what is wrong with it."""
    try:
        return x509.load_pem_x509_certificate(chain_pem.encode()).not_valid_before_utc
    except ValueError:
        return None
