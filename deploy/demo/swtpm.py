"""A software TPM 2.0 (swtpm) as a value with a lifetime: for the demo, the tests and the bench.

swtpm speaks over two adjacent TCP ports on 127.0.0.1: TPM commands on ``port``, control on
``port + 1`` (what the ``swtpm:`` TCTI of tpm2-tss expects). Ports 2321 and 2322 are never used:
they are what the TCTI loader probes by itself, and would hide a missing setting.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attestation.algorithms import HashAlgorithm
from attestation.reader import pack

_HOST: Final = "127.0.0.1"
_PORTS: Final = range(20_000, 32_000, 2)
"""Below Linux's ephemeral range, so that no outgoing connection sits on them; above 2321."""
_START_ATTEMPTS: Final = 20
_READY_WITHIN_S: Final = 10.0
_STOP_WITHIN_S: Final = 5.0

_ST_NO_SESSIONS: Final = 0x8001
_ST_SESSIONS: Final = 0x8002
_CC_STARTUP: Final = 0x144
_CC_SHUTDOWN: Final = 0x145
_CC_GET_RANDOM: Final = 0x17B
_CC_PCR_EXTEND: Final = 0x182
_SU_CLEAR: Final = 0
_SU_STATE: Final = 1
_RS_PW: Final = 0x40000009
_CONTROL_INIT: Final = 2


class SoftwareTpmError(Exception):
    """swtpm is absent, did not start, or refused a command."""


class SoftwareTpm:
    """One swtpm process and its state.

    Args:
        state: Folder of the TPM's non-volatile state, made if absent and kept afterwards; None
            takes a temporary folder that :meth:`close` removes.

    Use as a context, or call :meth:`start` and :meth:`close`. The process also ends with the
    interpreter.

    Attributes:
        state: The absolute state folder.
        port: TCP port of TPM commands; 0 until the first start, then kept over restarts.
    """

    def __init__(self, state: Path | None = None) -> None:
        self._owns_state = state is None
        self.state = Path(tempfile.mkdtemp(prefix="swtpm-")) if state is None else state.resolve()
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., SoftwareTpm] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def tcti(self) -> str:
        """The TCTI configuration that reaches this TPM."""
        return f"swtpm:host={_HOST},port={self.port}"

    @property
    def pid(self) -> int | None:
        """Process id, or None while switched off."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Switch the TPM on (TPM2_Startup(CLEAR) included); does nothing if it is on.

        The first start takes free ports; later ones take the same ports again, so that
        :attr:`tcti` stays true.

        Raises:
            SoftwareTpmError: If swtpm is not installed or does not answer.
        """
        if self._process is not None:
            return
        for _ in range(_START_ATTEMPTS):
            port = self.port or _free_adjacent_ports()
            process = self._spawn(port)
            if _answers(process, port):
                self.port = port
                self._process = process
                self._finalizer = weakref.finalize(self, _end, process)
                return
            _end(process)
        raise SoftwareTpmError(f"swtpm did not answer; see {self._log}")

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        command = [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}"),
            *("--server", f"type=tcp,port={port},bindaddr={_HOST}"),
            *("--ctrl", f"type=tcp,port={port + 1},bindaddr={_HOST}"),
            *("--flags", "not-need-init,startup-clear"),
        ]
        try:
            with self._log.open("ab") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in a terminal is ours to handle
                )
        except FileNotFoundError as error:
            raise SoftwareTpmError("swtpm is not installed: apt-get install swtpm") from error

    @property
    def _log(self) -> Path:
        return self.state / "swtpm.log"

    def stop(self) -> None:
        """Switch the TPM off in order: TPM2_Shutdown(CLEAR), then the process."""
        if self._process is not None:
            with contextlib.suppress(SoftwareTpmError):
                self.command(_ST_NO_SESSIONS, _CC_SHUTDOWN, pack(">H", _SU_CLEAR))
        self._end_process(kill=False)

    def kill(self) -> None:
        """Pull the plug: SIGKILL, no TPM2_Shutdown.

        If a key with dictionary-attack protection was used since the start, the next start counts
        this as one failed authorisation (TPM 2.0 Part 1, 19.8.6); swtpm locks out after three.
        """
        self._end_process(kill=True)

    def _end_process(self, *, kill: bool) -> None:
        if self._process is not None and kill:
            self._process.kill()
        if self._finalizer is not None:
            self._finalizer()
        self._process = None
        self._finalizer = None

    def close(self) -> None:
        """Switch off, and remove the state if it was temporary."""
        self.stop()
        if self._owns_state:
            shutil.rmtree(self.state, ignore_errors=True)

    def power_cycle(self, *, orderly: bool = True) -> None:
        """Reboot: PCRs are reset and resetCount grows by one; persistent objects stay.

        Args:
            orderly: Whether TPM2_Shutdown(CLEAR) precedes, as Linux does before a reboot. If not,
                see :meth:`kill` for what it counts towards the lockout.
        """
        if orderly:
            self.command(_ST_NO_SESSIONS, _CC_SHUTDOWN, pack(">H", _SU_CLEAR))
        self._initialise()
        self.command(_ST_NO_SESSIONS, _CC_STARTUP, pack(">H", _SU_CLEAR))

    def suspend_and_resume(self) -> None:
        """Suspend to RAM and wake: PCRs stay and restartCount grows by one."""
        self.command(_ST_NO_SESSIONS, _CC_SHUTDOWN, pack(">H", _SU_STATE))
        self._initialise()
        self.command(_ST_NO_SESSIONS, _CC_STARTUP, pack(">H", _SU_STATE))

    def extend(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """TPM2_PCR_Extend, as firmware does for each event of its log.

        Args:
            pcr: Index, 0 to 23; 17 to 22 are refused by the TPM (locality).
            digests: Digest for each bank; other banks stay as they are.
        """
        values = b"".join(pack(">H", algorithm) + digest for algorithm, digest in digests.items())
        password = pack(">IHBH", _RS_PW, 0, 0, 0)
        body = pack(">II", pcr, len(password)) + password + pack(">I", len(digests)) + values
        self.command(_ST_SESSIONS, _CC_PCR_EXTEND, body)

    def command(self, tag: int, code: int, body: bytes) -> bytes:
        """Send one raw TPM command.

        Returns:
            The response after its 10-byte header.

        Raises:
            SoftwareTpmError: If the TPM is off or answers with an error.
        """
        try:
            return _command(self.port, tag, code, body)
        except OSError as error:
            raise SoftwareTpmError(f"no swtpm at {self.tcti}: {error}") from error

    def _initialise(self) -> None:
        """Reset the chip (_TPM_Init) through the control channel."""
        with socket.create_connection((_HOST, self.port + 1), timeout=_STOP_WITHIN_S) as control:
            control.sendall(pack(">II", _CONTROL_INIT, 0))
            answer = _receive(control, 4)
        if int.from_bytes(answer, "big") != 0:
            raise SoftwareTpmError(f"swtpm refused CMD_INIT: 0x{answer.hex()}")


def endorse(state: Path, authority: Path, *, serial: str, banks: tuple[str, ...]) -> None:
    """Make new TPM state in ``state`` with EK and platform certificates from a local CA.

    Args:
        state: Empty or absent folder.
        authority: Folder of the CA's key and certificates; shared by many TPMs, made if absent.
            ``swtpm-localca-rootca-cert.pem`` and ``issuercert.pem`` appear there.
        serial: Written into the EK certificate's subject.
        banks: PCR banks to leave active, e.g. ``("sha1", "sha256")``.

    Raises:
        SoftwareTpmError: If swtpm_setup fails.
    """
    state = state.resolve()
    authority = authority.resolve()
    for folder in (state, authority):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "localca.conf": f"statedir = {authority}\nsigningkey = {authority}/signkey.pem\n"
        f"issuercert = {authority}/issuercert.pem\ncertserial = {authority}/certserial\n",
        "localca.options": "--platform-manufacturer Example\n--platform-version 1.0\n"
        "--platform-model Demo\n",
        "setup.conf": "create_certs_tool = /usr/bin/swtpm_localca\n"
        f"create_certs_tool_config = {authority}/localca.conf\n"
        f"create_certs_tool_options = {authority}/localca.options\n",
    }
    for name, text in settings.items():
        (authority / name).write_text(text)
    command = [
        *("swtpm_setup", "--tpm2", "--tpmstate", str(state)),
        *("--config", str(authority / "setup.conf"), "--create-ek-cert", "--create-platform-cert"),
        *("--ecc", "--lock-nvram", "--not-overwrite", "--vmid", serial),
        *("--pcr-banks", ",".join(banks), "--logfile", str(state / "setup.log")),
    ]
    try:
        environment = {**os.environ, "TMPDIR": str(authority)}  # its scratch goes with ours
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)
    except FileNotFoundError as error:
        raise SoftwareTpmError(
            "swtpm_setup is not installed: apt-get install swtpm-tools"
        ) from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SoftwareTpmError(f"swtpm_setup failed; see {state / 'setup.log'}") from error


def _free_adjacent_ports() -> int:
    """Return a port that is free together with the next one, at this moment."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind((_HOST, port))
                second.bind((_HOST, port + 1))
            except OSError:
                continue
            return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the TPM answers; False if the process ends first (its port was taken)."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, SoftwareTpmError):
            _command(port, _ST_NO_SESSIONS, _CC_GET_RANDOM, pack(">H", 8))
            return process.poll() is None
        time.sleep(0.01)
    return False


def _command(port: int, tag: int, code: int, body: bytes) -> bytes:
    with socket.create_connection((_HOST, port), timeout=_READY_WITHIN_S) as line:
        line.sendall(pack(">HII", tag, 10 + len(body), code) + body)
        header = _receive(line, 10)
        size = int.from_bytes(header[2:6], "big")
        answer = _receive(line, size - 10)
    code_returned = int.from_bytes(header[6:10], "big")
    if code_returned != 0:
        raise SoftwareTpmError(f"TPM command 0x{code:x} was refused with 0x{code_returned:x}")
    return answer


def _receive(line: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = line.recv(count - len(received))
        if not piece:
            raise ConnectionError("swtpm closed the connection")
        received += piece
    return received


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
