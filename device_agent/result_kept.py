"""A result of another verifier, kept by the agent that attests to it, or in a file.

It is read anew for each enrolment: the agent there replaces it with every judgement.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Final

from attestation.limits import MAX_PROOF_BYTES
from attestation.refusals import RefusalCode
from device_agent.errors import SourceUnreadable, StateCorrupt, StateUnwritable
from device_agent.state.files import StateFile

_SETTING: Final = "enrolment.result"
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""JWS Compact Serialization (RFC 7515, 7.1)."""


class KeptResult:
    """Implements :class:`device_agent.collector.ResultWords`.

    Args:
        place: The state directory of a device-agent that attests to the other verifier, or a file
            with the result: the JWT alone, or a JSON document with ``result``, as ``device-agent
            attest --json`` prints it.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def read(self) -> str:
        """Return the newest result there. Whether it is good enough is the verifier's to say.

        Raises:
            SourceUnreadable: If there is none, or it cannot be read.
        """
        try:
            is_state = self._place.is_dir()
        except OSError as error:
            raise _unreadable(f"{self._place}: {error.strerror}") from error
        return self._from_state() if is_state else self._from_file()

    def _from_state(self) -> str:
        try:
            saved = StateFile(self._place).load()
        except (StateCorrupt, StateUnwritable) as error:
            raise _unreadable(f"{self._place}: {error.reason}") from error
        if saved is None or saved.verdict is None:
            raise _unreadable(
                f"{self._place} holds no result yet; let the agent of that state directory attest"
            )
        return self._token(saved.verdict.result)

    def _from_file(self) -> str:
        try:
            # Without waiting: a pipe that nobody writes to would hold the daemon up.
            with os.fdopen(os.open(self._place, _OPEN), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise _unreadable(f"{self._place} is no file")
                content = file.read(2 * MAX_PROOF_BYTES + 1).strip()
        except OSError as error:
            raise _unreadable(f"{self._place}: {error.strerror}") from error
        try:
            text = content.decode("ascii")
            return self._token(json.loads(text).get("result") if text[:1] == "{" else text)
        except (ValueError, RecursionError) as error:
            raise self._none() from error

    def _token(self, found: object) -> str:
        if not isinstance(found, str) or len(found) > MAX_PROOF_BYTES or not _JWT.fullmatch(found):
            raise self._none()
        return found

    def _none(self) -> SourceUnreadable:
        return _unreadable(
            f"{self._place} holds no attestation result (a JWT of at most {MAX_PROOF_BYTES} "
            "characters)"
        )


def _unreadable(reason: str) -> SourceUnreadable:
    return SourceUnreadable(RefusalCode.SOURCE_UNREADABLE, f"{_SETTING} {reason}")
