"""``verifier serve`` as a process of its own, over a site's keys, configuration and store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field

from tests.simulators.verifier_site import VerifierSite
from verifier.store.sql_store import SqlStore, open_store


@dataclass
class Service:
    """A site whose verifier runs as a process."""

    site: VerifierSite
    process: subprocess.Popen[str] | None = None
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    def start(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "verifier", "-c", str(self.site.config), "serve", "--log-text"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"verifier_ready.*port=(\d+)", line)
            if found:
                self.site.port = int(found[1])
                self.reader = threading.Thread(target=self._drain)
                self.reader.start()
                return
        raise AssertionError("".join(self.lines))

    def _drain(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self.lines.extend(stream)

    def end(self, number: int) -> int:
        assert self.process is not None
        assert self.reader is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.reader.join(10)
        for client in self.site._clients:
            client.close()
        return code

    def store(self) -> SqlStore:
        return open_store(self.site.settings.store.url, with_outbox=True)
