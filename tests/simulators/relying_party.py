"""Relying parties: openssl as anyone has it, and a TLS server that polls a revocation list."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self


def openssl(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the openssl command; both streams are in ``stdout``."""
    return subprocess.run(
        ["openssl", *map(str, arguments)],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


class PollingServer:
    """A TLS server for certificates of one CA that loads its revocation list again and again.

    Args:
        trust: PEM of the CAs that clients must chain to.
        crl_url: Where the list is.
        server: PEM files with the server's own chain and key.
        every_s: Seconds between two looks.
    """

    def __init__(
        self, trust: Path, crl_url: str, server: tuple[Path, Path], every_s: float = 1.0
    ) -> None:
        self._trust = trust
        self._crl_url = crl_url
        self._server = server
        self._every_s = every_s
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self._context = self._load()
        self._threads = [
            threading.Thread(target=self._poll, daemon=True),
            threading.Thread(target=self._serve, daemon=True),
        ]
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _load(self) -> ssl.SSLContext:
        with urllib.request.urlopen(self._crl_url, timeout=10) as answer:  # noqa: S310 - loopback
            crl = ssl.DER_cert_to_PEM_cert(answer.read()).replace("CERTIFICATE", "X509 CRL")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._server)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self._trust.read_text())
        path = self._trust.with_suffix(".crl.pem")
        path.write_text(crl)
        context.load_verify_locations(cafile=str(path))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context

    def _poll(self) -> None:
        while not self._stop.wait(self._every_s):
            self._context = self._load()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                plain, _ = self._listener.accept()
            except TimeoutError:
                continue
            with suppress(OSError), plain:
                plain.settimeout(10)
                with self._context.wrap_socket(plain, server_side=True) as tls:
                    tls.sendall(b"welcome")


def admitted(port: int, context: ssl.SSLContext) -> bool:
    """Say whether a server takes us: with TLS 1.3 a client hears of it only when it reads."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                return tls.recv(16) == b"welcome"
        except (ssl.SSLError, ConnectionError):
            return False


def status_of(text: str, certificates: Sequence[Path]) -> list[str]:
    """Return what ``openssl ocsp`` says of each certificate."""
    found = []
    for path in certificates:
        lines = [line for line in text.splitlines() if line.startswith(f"{path}: ")]
        found.append(lines[0].rpartition(": ")[2] if lines else "absent")
    return found
