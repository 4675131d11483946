"""nginx and FreeRADIUS as relying parties, with settings as docs/revocation.md has them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deploy.demo.processes import free_port

PAGE = Path(__file__).parents[2] / "docs" / "revocation.md"
_WITHIN_S = 20.0


def on_the_page(fence: str, word: str) -> str:
    """The one block of the page, after a fence of this kind, that has this word in it."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for kind, block in blocks if kind == fence and word in block]
    return str(found)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None, f"{name} is not installed"
    return found


@dataclass
class _Server:
    """A server in the foreground, in a folder of its own."""

    folder: Path
    certificate: Path
    key: Path
    settings: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_up(self) -> bool:
        raise NotImplementedError

    def __enter__(self) -> Self:
        with (self.folder / "output.log").open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        until = time.monotonic() + _WITHIN_S
        while not self.is_up():
            assert self.process.poll() is None, (self.folder / "output.log").read_text()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


@dataclass
class Nginx(_Server):
    """nginx that greets whoever shows a client certificate that it believes."""

    def command(self) -> list[str]:
        places = "\n".join(
            f"{kind}_temp_path {self.folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"""
daemon off;
{user}
error_log {self.folder}/error.log info;
pid {self.folder}/nginx.pid;
events {{}}
http {{
access_log off;
{places}
server {{
listen 127.0.0.1:{self.port} ssl;
ssl_certificate {self.certificate};
ssl_certificate_key {self.key};
{self.settings}
location / {{ return 200 "welcome"; }}
}}
}}
"""
        )
        return [*self._base(), "-e", f"{self.folder}/error.log"]

    def _base(self) -> list[str]:
        return [_program("nginx"), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def shell(self, script: str) -> None:
        """Run commands in the folder, where ``nginx`` is this one."""
        alias = f'nginx() {{ command {" ".join(self._base())} "$@"; }}\n'
        subprocess.run(["sh", "-euc", alias + script], cwd=self.folder, check=True, timeout=30)

    def admits(self, authority: Path, client: Path) -> bool:
        """Say whether the server greets a client (PEM file with chain and key)."""
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--max-time", "20"),
                *("--cacert", str(authority), "--cert", str(client)),
                f"https://localhost:{self.port}/",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stdout == "welcome" or "SSL certificate error" in done.stdout, done
        return done.stdout == "welcome"


@dataclass
class FreeRadius(_Server):
    """FreeRADIUS that takes EAP-TLS and nothing else."""

    secret: str = field(default_factory=lambda: secrets.token_hex(8))

    def command(self) -> list[str]:
        places = "\n".join(
            f"{name} = {self.folder}" for name in ("confdir", "run_dir", "db_dir", "logdir")
        )
        opening = "tls-config tls-common {\n"
        assert self.settings.startswith(opening)
        served = f"certificate_file = {self.certificate}\nprivate_key_file = {self.key}\n"
        (self.folder / "radiusd.conf").write_text(
            f"""
prefix = /usr
libdir = /usr/lib/freeradius
{places}
security {{
allow_core_dumps = no
}}
client localhost {{
ipaddr = 127.0.0.1
secret = {self.secret}
}}
modules {{
eap {{
default_eap_type = tls
{opening}{served}{self.settings.removeprefix(opening)}
tls {{
tls = tls-common
}}
}}
}}
server default {{
listen {{
type = auth
ipaddr = 127.0.0.1
port = {self.port}
}}
authorize {{
eap
}}
authenticate {{
eap
}}
}}
"""
        )
        return [_program("freeradius"), "-X", "-d", str(self.folder), "-n", "radiusd"]

    def is_up(self) -> bool:
        return "Ready to process requests" in (self.folder / "output.log").read_text()

    def admits(self, authority: Path, client: Path) -> bool:
        """Say whether a login by EAP-TLS succeeds (PEM file with chain and key)."""
        (self.folder / "login.conf").write_text(
            f"""network={{
key_mgmt=IEEE8021X
eap=TLS
identity="device"
ca_cert="{authority}"
client_cert="{client}"
private_key="{client}"
}}
"""
        )
        done = subprocess.run(
            [
                *("eapol_test", "-c", str(self.folder / "login.conf"), "-t", "10"),
                *("-a", "127.0.0.1", "-p", str(self.port), "-s", self.secret),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        last = done.stdout.strip().splitlines()[-1]
        assert last in {"SUCCESS", "FAILURE"}, done.stdout[-2000:]
        return last == "SUCCESS"
