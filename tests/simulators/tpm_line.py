"""A TPM whose line a test may hold: a relay between the adapter and a real swtpm."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from deploy.demo.swtpm import SoftwareTpm

Interrupt = Callable[[int], int | None]
"""Called with each command code before the TPM sees the command. A number is answered as the
response code in the TPM's place; None lets the command pass."""


def pass_everything(_code: int) -> int | None:
    return None


class TpmLine:
    """Relays every command to ``tpm`` after asking ``interrupt``; counts the commands."""

    def __init__(self, tpm: SoftwareTpm) -> None:
        self._tpm = tpm
        self.interrupt: Interrupt = pass_everything
        self.commands: list[int] = []
        self._doors: list[socket.socket] = []

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self._doors[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        while not self._doors:
            first, second = socket.socket(), socket.socket()
            try:
                first.bind(("127.0.0.1", 0))
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
            except OSError:
                first.close()
                second.close()
                continue
            self._doors = [first, second]
        for door, serve in zip(
            self._doors, (self._serve_commands, self._serve_control), strict=True
        ):
            door.listen()
            threading.Thread(target=self._accept, args=(door, serve), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for door in self._doors:
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            door.close()

    def _accept(self, door: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = door.accept()
                with line, contextlib.suppress(OSError):
                    serve(line)

    def _serve_commands(self, line: socket.socket) -> None:
        while header := line.recv(10, socket.MSG_WAITALL):
            body = line.recv(int.from_bytes(header[2:6], "big") - 10, socket.MSG_WAITALL)
            code = int.from_bytes(header[6:10], "big")
            self.commands.append(code)
            refusal = self.interrupt(code)
            if refusal is not None:
                line.sendall(b"\x80\x01\x00\x00\x00\x0a" + refusal.to_bytes(4, "big"))
                continue
            with socket.create_connection(("127.0.0.1", self._tpm.port)) as tpm:
                tpm.sendall(header + body)
                answer = tpm.recv(10, socket.MSG_WAITALL)
                rest = int.from_bytes(answer[2:6], "big") - 10
                line.sendall(answer + (tpm.recv(rest, socket.MSG_WAITALL) if rest else b""))

    def _serve_control(self, line: socket.socket) -> None:
        while order := line.recv(4096):
            with socket.create_connection(("127.0.0.1", self._tpm.port + 1)) as tpm:
                tpm.sendall(order)
                line.sendall(tpm.recv(4096))
