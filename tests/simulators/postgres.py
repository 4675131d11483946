"""A private PostgreSQL cluster in a temporary folder, on a unix socket, as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

_PLACES = ":".join(
    [os.environ.get("PATH", ""), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))[::-1]]
)


class Postgres:
    """One cluster; each test takes a database of its own.

    PostgreSQL refuses to run as root, so the user ``postgres`` runs it when root tests.

    Args:
        folder: Where.
        durable: Whether commits are synced to disk; tests need it only for what a crash leaves.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self._fsync = "on" if durable else "off"
        self._numbers = 0
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        found = shutil.which(program, path=_PLACES)
        assert found is not None, f"{program} is not installed"
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*prefix, found, *arguments], check=True, capture_output=True, cwd=self.folder
        )

    def start(self) -> None:
        cluster = str(self.folder / "cluster")
        self._run("initdb", "-D", cluster, "-U", "tester", "--auth=trust", "-E", "UTF8")
        options = (
            f"-k {self.folder} -c listen_addresses='' -c fsync={self._fsync} -c max_connections=60"
        )
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", cluster, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "cluster"), "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Make an empty database; returns its SQLAlchemy URL."""
        self._numbers += 1
        name = f"store{self._numbers}"
        self._run("createdb", "-h", str(self.folder), "-U", "tester", name)
        return f"postgresql+psycopg://tester@/{name}?host={self.folder}"

    def restored_dump(self, url: str) -> str:
        """Dump a database of this cluster and restore the dump as another; returns its URL."""
        restored = self.new_database()
        names = [make_url(one).database or "" for one in (url, restored)]
        dump = str(self.folder / f"{names[0]}.dump")
        where = ("-h", str(self.folder), "-U", "tester")
        self._run("pg_dump", *where, "--format=custom", "--file", dump, names[0])
        self._run("pg_restore", *where, "--exit-on-error", "--dbname", names[1], dump)
        return restored


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Not below pytest's folder: that one is closed to the user that runs the cluster, and the
    # path of a unix socket may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        cluster = Postgres(Path(folder) / "c")
        cluster.start()
        yield cluster
        cluster.stop()
