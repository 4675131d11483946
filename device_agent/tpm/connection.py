"""One ESAPI context, one lock: opening, retrying, translating and reopening.

An ESAPI context must not be shared between threads, so every operation runs inside
:meth:`TpmConnection.run`, one at a time. An operation may be run again from its start (after a
warning of the TPM, or on a reopened connection), so it must be safe to repeat.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from tpm2_pytss import ESAPI, ESYS_TR, TCTILdr, TSS2_Exception
from tpm2_pytss.constants import TPM2_CAP, TPM2_SU

from attestation.tpm.public import TpmPublic
from device_agent.errors import (
    SettingsInvalid,
    TpmBusy,
    TpmError,
    TpmKeyMissing,
    TpmLockedOut,
    TpmRefused,
    TpmUnavailable,
)

Answer = TypeVar("Answer")

_TCTI_KINDS: Final = ("device", "tabrmd", "swtpm", "mssim")
"""The loader would take a path to any library; only these names are passed on."""

_LAYER_MASK: Final = 0xFF0000
_TPM_LAYERS: Final = (0x000000, 0x0B0000, 0x0C0000)
"""The TPM itself and the resource manager speaking for it (TSS 2.0 Overview, 3.3)."""
_TCTI_LAYER: Final = 0x0A0000

_RC_INITIALIZE: Final = 0x100
_RC_FAILURE: Final = 0x101
_RC_LOCKOUT: Final = 0x921
_RC_HANDLE: Final = 0x08B
_RC_REFERENCES: Final = range(0x910, 0x917)
_RC_WAIT: Final = frozenset(
    {
        *(0x902, 0x903, 0x904, 0x905, 0x906),  # no room for objects, sessions or their handles
        *(0x908, 0x90A, 0x920, 0x922),  # YIELDED, TESTING, NV_RATE, RETRY
    }
)

_PT_LOCKOUT_INTERVAL: Final = 0x210


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a TPM that asks for time is given it.

    Attributes:
        attempts: Runs of one operation, the first included.
        first_s: Pause before the second run, seconds; each later pause doubles.
        longest_s: Longest single pause, seconds.
    """

    attempts: int = 10
    first_s: float = 0.02
    longest_s: float = 1.0

    def pause(self, attempt: int) -> float:
        """Return the pause before run number ``attempt``, seconds; the first run is 0."""
        return min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))


@dataclass(slots=True)
class OpenTpm:
    """An open ESAPI context with the persistent objects seen through it.

    Attributes:
        tcti: The transport below the context.
        esapi: The context; valid inside :meth:`TpmConnection.run` only.
        used: Whether an operation has succeeded on it.
        publics: Public areas already read and parsed, by persistent handle.
    """

    tcti: TCTILdr
    esapi: ESAPI
    used: bool = False
    publics: dict[int, TpmPublic] = field(default_factory=dict)
    _objects: dict[int, ESYS_TR] = field(default_factory=dict)

    def persistent(self, handle: int, name: str) -> ESYS_TR:
        """Return the object at a persistent handle, asking the TPM for it only once.

        Raises:
            TpmKeyMissing: If nothing is there.
        """
        found = self._objects.get(handle)
        if found is None:
            found = self.find(handle)
            if found is None:
                raise TpmKeyMissing(
                    f"no {name} key at persistent handle 0x{handle:08x}: the device was not "
                    "manufactured or enrolled, the TPM was cleared, or the handle is configured "
                    "wrongly"
                )
            self._objects[handle] = found
        return found

    def exists(self, handle: int) -> bool:
        """Ask the TPM anew whether anything is at a persistent handle."""
        known = self._objects.pop(handle, None)
        self.publics.pop(handle, None)
        if known is not None:
            self.esapi.tr_close(known)
        found = self.find(handle)
        if found is None:
            return False
        self._objects[handle] = found
        return True

    def find(self, handle: int) -> ESYS_TR | None:
        """Look up a persistent object or an NV index; None if it does not exist.

        The library gives one and the same ESYS_TR for one handle: never close one that
        :meth:`persistent` may have remembered.
        """
        try:
            return self.esapi.tr_from_tpmpublic(handle)
        except TSS2_Exception as error:
            if _is_handle_unknown(int(error.rc)):
                return None
            raise

    def forget_objects(self) -> bool:
        """Drop what was remembered about persistent objects; False if there was nothing."""
        if not self._objects:
            return False
        for known in self._objects.values():
            with contextlib.suppress(TSS2_Exception):
                self.esapi.tr_close(known)
        self._objects.clear()
        self.publics.clear()
        return True

    def evicted(self, handle: int) -> None:
        """Take note that a persistent object is gone; ESAPI has closed it already."""
        self._objects.pop(handle, None)
        self.publics.pop(handle, None)

    @contextlib.contextmanager
    def flushed(self, handle: ESYS_TR) -> Iterator[ESYS_TR]:
        """Hold a transient object or session and flush it on every path."""
        try:
            yield handle
        except BaseException:
            with contextlib.suppress(TSS2_Exception):  # the first failure is the one to tell
                self.esapi.flush_context(handle)
            raise
        self.esapi.flush_context(handle)

    def properties(self, first: int, count: int) -> dict[int, int]:
        """Read TPM2_PT values ``first`` to ``first + count - 1``, as far as they exist."""
        _, capability = self.esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, first, count)
        # ``capability`` owns the memory of what hangs below it: it must outlive the loop.
        return {
            int(entry.property): int(entry.value)
            for entry in capability.data.tpmProperties
            if first <= int(entry.property) < first + count
        }

    def close(self) -> None:
        """Free the context and the TCTI."""
        self.esapi.close()
        self.tcti.close()


class TpmConnection:
    """A TPM behind one lock, opened on first use and reopened when the connection was lost.

    Args:
        tcti: ``device:/dev/tpmrm0``, ``tabrmd:bus_type=…`` or ``swtpm:host=…,port=…``.
        backoff: Patience with a TPM that asks for time.
        shutdown_on_close: Send TPM2_Shutdown(CLEAR) on :meth:`close`. Only for a TPM that nobody
            else uses (a simulator, a direct ``/dev/tpm0``): with the kernel's resource manager
            the kernel itself shuts the TPM down when the machine goes down.

    Raises:
        SettingsInvalid: If the TCTI's name is not one of device, tabrmd, swtpm, mssim.
    """

    def __init__(
        self, tcti: str, *, backoff: Backoff | None = None, shutdown_on_close: bool = False
    ) -> None:
        if tcti.partition(":")[0] not in _TCTI_KINDS:
            raise SettingsInvalid(
                f"TPM interface {tcti!r} is not understood: want device:/dev/tpmrm0, tabrmd:… or "
                "swtpm:host=…,port=…"
            )
        self._tcti = tcti
        self._backoff = backoff or Backoff()
        self._shutdown_on_close = shutdown_on_close
        self._lock = threading.Lock()
        self._open: OpenTpm | None = None

    def run(self, what: str, operation: Callable[[OpenTpm], Answer]) -> Answer:
        """Run one operation alone on the TPM.

        Args:
            what: The operation in words, for errors: ``quote``, ``read the IAK certificate``.
            operation: Safe to repeat; leaves no transient object behind.

        Raises:
            TpmUnavailable: If no TPM answers, also not after one reopening.
            TpmBusy: If it still asks for time after the last attempt.
            TpmLockedOut: In dictionary-attack lockout.
            TpmKeyMissing: If a key is not at its handle.
            TpmRefused: For any other response code.
        """
        with self._lock:
            for attempt in range(self._backoff.attempts):
                if attempt:
                    time.sleep(self._backoff.pause(attempt))
                try:
                    return self._run_once(operation)
                except TSS2_Exception as error:
                    code = int(error.rc)
                    if not asks_for_time(code):
                        raise self._translate(what, error) from error
            raise TpmBusy(
                f"{what}: the TPM asked for more time {self._backoff.attempts} times; another "
                "program may be holding its slots, or it is testing itself: try again later"
            )

    def _run_once(self, operation: Callable[[OpenTpm], Answer]) -> Answer:
        """Run, and once more on a fresh connection or with fresh handles if those were stale."""
        tpm = self._opened()
        try:
            answer = operation(tpm)
        except TSS2_Exception as error:
            code = int(error.rc)
            if _is_connection_lost(code) and tpm.used:
                self._drop()
                return operation(self._opened())
            if _is_handle_unknown(code) and tpm.forget_objects():
                return operation(tpm)
            raise
        tpm.used = True
        return answer

    def _opened(self) -> OpenTpm:
        if self._open is None:
            tcti = None
            try:
                tcti = TCTILdr.parse(self._tcti)
                self._open = OpenTpm(tcti=tcti, esapi=ESAPI(tcti))
            except TSS2_Exception as error:
                if tcti is not None:
                    tcti.close()
                raise TpmUnavailable(_why_not_opened(self._tcti, error)) from error
        return self._open

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _translate(self, what: str, error: TSS2_Exception) -> TpmError:
        """Return our error for a refusal that waiting does not mend."""
        code = int(error.rc)
        layer, base = code & _LAYER_MASK, code & 0xFFF
        if layer not in _TPM_LAYERS:
            self._drop()  # an ESAPI context that failed in itself is not used again
            if layer == _TCTI_LAYER:
                return TpmUnavailable(
                    f"{what}: the TPM at {self._tcti} stopped answering ({error}); the connection "
                    "is opened anew on next use"
                )
        elif base == _RC_LOCKOUT:
            return self._locked_out(what)
        elif base == _RC_INITIALIZE:
            return TpmUnavailable(f"{what}: the TPM was not started (no TPM2_Startup since reset)")
        elif base == _RC_FAILURE:
            return TpmUnavailable(
                f"{what}: the TPM is in failure mode; power the machine off and on, and replace "
                "it if that does not help"
            )
        return TpmRefused(f"{what}: refused with 0x{code:x} ({error})", rc=code)

    def _locked_out(self, what: str) -> TpmLockedOut:
        seconds = None
        if self._open is not None:
            with contextlib.suppress(TSS2_Exception):
                seconds = self._open.properties(_PT_LOCKOUT_INTERVAL, 1).get(_PT_LOCKOUT_INTERVAL)
        wait = "" if seconds is None else f"; it forgives one failure every {seconds} s it is on"
        return TpmLockedOut(
            f"{what}: the TPM is in dictionary-attack lockout after failed authorisations or "
            f"power cuts{wait}: wait, or let the owner clear it with tpm2_dictionarylockout",
            recovery_s=seconds,
        )

    def close(self) -> None:
        """Close; a later :meth:`run` opens anew."""
        with self._lock:
            if self._open is not None and self._shutdown_on_close:
                with contextlib.suppress(TSS2_Exception):
                    self._open.esapi.shutdown(TPM2_SU.CLEAR)
            self._drop()


def _base_code(code: int) -> int:
    """Strip layer and, for format-one codes, parameter, handle or session number."""
    if code & _LAYER_MASK not in _TPM_LAYERS:
        return -1
    base = code & 0xFFF
    return base & 0x0BF if base & 0x080 else base


def asks_for_time(code: int) -> bool:
    """Say whether a response code means: not carried out, ask again later."""
    return _base_code(code) in _RC_WAIT


def _is_handle_unknown(code: int) -> bool:
    base = _base_code(code)
    return base == _RC_HANDLE or base in _RC_REFERENCES


def _is_connection_lost(code: int) -> bool:
    return code & _LAYER_MASK == _TCTI_LAYER


def _why_not_opened(tcti: str, error: TSS2_Exception) -> str:
    kind, _, place = tcti.partition(":")
    device = Path(place or "/dev/tpm0")
    if kind == "device" and not device.exists():
        return (
            f"no TPM device {device}: enable the TPM in the firmware setup, or configure another "
            "TPM interface"
        )
    if kind == "device":
        return (
            f"the TPM device {device} cannot be opened ({error}): run as a member of group tss, "
            "and take /dev/tpmrm0, which many may open at once"
        )
    return f"no TPM answers at {tcti} ({error})"
