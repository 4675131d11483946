"""The firmware event log file, read whole and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attestation.limits import MAX_FIRMWARE_LOG_BYTES
from attestation.refusals import RefusalCode
from device_agent.errors import SourceUnreadable

_CHUNK: Final = 256 * 1024


class FirmwareLogFile:
    """Implements :class:`device_agent.ports.MeasurementLog`.

    Args:
        path: ``binary_bios_measurements``; None on a platform without firmware log.
        limit_bytes: The most we read.
    """

    def __init__(self, path: Path | None, *, limit_bytes: int = MAX_FIRMWARE_LOG_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes

    def read(self) -> bytes | None:
        """Return the log, or None if there is none (no path, no file, or an empty file).

        securityfs tells no size and answers in pages, so the file is read to its end.

        Raises:
            SourceUnreadable: If it exists but cannot be read (``source-unreadable``) or is larger
                than the limit (``too-large``).
        """
        if self._path is None:
            return None
        content = bytearray()
        try:
            with self._path.open("rb", buffering=0) as file:
                while chunk := file.read(min(_CHUNK, self._limit_bytes + 1 - len(content))):
                    content += chunk
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceUnreadable(
                RefusalCode.SOURCE_UNREADABLE,
                f"{self._path} cannot be read: {error.strerror}; give the daemon's user the right "
                "to read it, or set evidence.firmware_log to a copy",
            ) from error
        if len(content) > self._limit_bytes:
            raise SourceUnreadable(
                RefusalCode.TOO_LARGE,
                f"{self._path} is larger than {self._limit_bytes} bytes; that is no firmware log",
            )
        return bytes(content) or None
